"""The service as a process of its own, started for a script."""

import contextlib
import os
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
_READY_S, _END_S = 30, 60


class ProcessError(Exception):
    """The service didn't start, died, or didn't end well; the message is for a person."""


@contextlib.contextmanager
def service(**env: str) -> Iterator[tuple[str, int]]:
    """Start the service on a free port; yield its URL and process id; in the end see that it drains.

    Args:
        env: its settings.

    Raises:
        ProcessError: it isn't ready in time, logs an unexpected error, or doesn't end with exit code 0.
    """
    port = free_port()
    settings = {"HOST": "127.0.0.1", "PORT": str(port), "LOG_LEVEL": "warning", "LOG_FORMAT": "text"}
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [sys.executable, "-m", "app"], cwd=ROOT, env=os.environ | settings | env, stdout=log, stderr=log
        )
        try:
            url = f"http://127.0.0.1:{port}"
            _wait_until_ready(process, url)
            yield url, process.pid
            process.send_signal(signal.SIGTERM)
            process.wait(_END_S)
            log.seek(0)
            said = log.read()
            if process.returncode or "Traceback" in said or "uncaptured" in said:
                raise ProcessError(
                    f"the service ended with exit code {process.returncode}; it said: {said[-5000:]}"
                )
        except subprocess.TimeoutExpired:
            raise ProcessError(f"the service doesn't end within {_END_S} s") from None
        finally:
            process.kill()
            process.wait()


def free_port() -> int:
    """Return a port of this machine that nothing listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


def _wait_until_ready(process: "subprocess.Popen[bytes]", url: str) -> None:
    until = time.monotonic() + _READY_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), urllib.request.urlopen(f"{url}/ready", timeout=5):  # noqa: S310
            return
        time.sleep(0.05)
    raise ProcessError(f"the service isn't ready within {_READY_S} s, or has died")
