"""The service as a process of its own, for scripts that need one."""

import contextlib
import os
import secrets
import signal
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[2]
_READY_S, _END_S = 120, 60
PORTS = range(10_240, 32_000)
"""Below the ports that systems give to connections, and to servers that ask for any port: one of them could
get a free port before the server for which it was chosen."""


class ProcessError(Exception):
    """A server did not start, died, or did not end properly; the message is for the user."""


@contextlib.contextmanager
def service(**env: str) -> Iterator[tuple[str, int]]:
    """Start the service on a free port; yield its URL and process id; stop it and check that it drains.

    Args:
        env: settings of the service, in addition to the environment.

    Raises:
        ProcessError: it is not ready in time, logs an unexpected error, or does not end with exit code 0.
    """
    port = free_port()
    settings = {"HOST": "127.0.0.1", "PORT": str(port), "LOG_LEVEL": "warning", "LOG_FORMAT": "text"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app"], cwd=ROOT, env=os.environ | settings | env, stdout=log, stderr=log
        )
        try:
            url = f"http://127.0.0.1:{port}"
            wait_until_ready(process, f"{url}/ready")
            yield url, process.pid
            process.send_signal(signal.SIGTERM)
            process.wait(_END_S)
            log.seek(0)
            output = log.read()
            if process.returncode or "Traceback" in output or "uncaptured" in output:
                raise ProcessError(
                    f"the service ended with exit code {process.returncode}; its log: {output[-5000:]}"
                )
        except subprocess.TimeoutExpired:
            raise ProcessError(f"the service did not end within {_END_S} s") from None
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    while True:
        port = secrets.choice(PORTS)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def wait_until_ready(process: "subprocess.Popen[bytes]", url: str, log: Path | None = None) -> None:
    """Wait until a server answers at a URL.

    Args:
        process: of the server.
        url: that answers with a status below 400 when it is ready.
        log: its end becomes part of the error.

    Raises:
        ProcessError: it has ended, or does not answer in time.
    """
    until = time.monotonic() + _READY_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(url, timeout=5):  # noqa: S310
            return
        time.sleep(0.05)
    said = f"; its log: {log.read_text('utf-8', 'replace')[-5000:]}" if log else ""
    raise ProcessError(f"{url} did not answer within {_READY_S} s, or its process has ended{said}")
