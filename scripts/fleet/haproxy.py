"""HAProxy in front of instances of the service on this machine."""

import contextlib
import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

from scripts.common import process

_BALANCE = {"random": "random(1)", "round-robin": "roundrobin", "least": "leastconn"}
_CONFIGURATION = """\
global
    nbthread 1
defaults
    mode http
    timeout connect 5s
    timeout client 100s
    timeout server 100s
listen fleet
    bind 127.0.0.1:{port}
    balance {balance}
"""


@contextlib.contextmanager
def balanced(urls: Sequence[str], balance: str) -> Iterator[str]:
    """Run HAProxy until the context ends; yield its URL.

    Args:
        urls: of the instances.
        balance: one of `scripts.fleet.simulation.BALANCES`.

    Raises:
        ProcessError: it does not answer.
        FileNotFoundError: it is not installed.
    """
    port = process.free_port()
    text = _CONFIGURATION.format(port=port, balance=_BALANCE[balance])
    text += "".join(f"    server pod{n} {url.removeprefix('http://')}\n" for n, url in enumerate(urls))
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "haproxy.cfg")
        file.write_text(text)
        command = ["haproxy", "-db", "-q", "-f", str(file)]
        running = subprocess.Popen(command, stderr=subprocess.DEVNULL)  # noqa: S603
        try:
            url = f"http://127.0.0.1:{port}"
            process.wait_until_ready(running, f"{url}/ready")
            yield url
        finally:
            running.kill()
            running.wait()
