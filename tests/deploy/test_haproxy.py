"""The proxy of a canary, by a real HAProxy."""

import contextlib
import http.client
import signal
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from deploy.haproxy import configuration
from deploy.smoke import is_ready
from scripts.common.process import free_port
from tests.conftest import needs
from tests.helpers.service import running
from tests.helpers.waiting import HANG_S, until

pytestmark = needs("haproxy")
_GAP_S = 7
"""Seconds without a request after which the proxy may soon close a connection."""


class Client:
    """A connection that is kept."""

    def __init__(self, port: int) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_S)
        self._last = time.monotonic()
        self.end = ""

    def ask(self) -> None:
        """Send a request unless the connection has ended; note how it ends."""
        if self.end:
            return
        gap = time.monotonic() - self._last
        try:
            self._connection.request("GET", "/health")
            answer = self._connection.getresponse()
            answer.read()
        except OSError:
            self.end = "idle" if gap > _GAP_S else "lost"
            return
        assert answer.status == 200
        self._last = time.monotonic()
        if answer.headers.get("Connection") == "close":
            self.end = "closed with a response"

    def close(self) -> None:
        self._connection.close()

    @property
    def closed(self) -> bool:
        """Whether the proxy has closed the connection."""
        self._connection.sock.settimeout(0)
        try:
            return self._connection.sock.recv(1) == b""
        except BlockingIOError:
            return False


@pytest.fixture
def port() -> int:
    return free_port()


@pytest.fixture
def reload(port, tmp_path: Path) -> Iterator[Callable[[], None]]:
    with running() as service:
        service.wait()
        file = tmp_path / "haproxy.cfg"
        text = configuration(f"127.0.0.1:{port}", {service.port: 100})
        file.write_text(text.replace("hard-stop-after 60s", "hard-stop-after 1h"))
        with subprocess.Popen(["haproxy", "-W", "-db", "-q", "-f", str(file)]) as haproxy:
            try:
                until(lambda: is_ready(f"http://127.0.0.1:{port}"))
                yield lambda: haproxy.send_signal(signal.SIGUSR2)
            finally:
                haproxy.terminate()


@pytest.fixture
def clients(port, reload) -> Iterator[list[Client]]:
    """Clients that got a response each before the reload."""
    with contextlib.ExitStack() as stack:
        clients = [stack.enter_context(contextlib.closing(Client(port))) for _ in range(20)]
        for client in clients:
            client.ask()
        reload()
        yield clients


def test_a_reload_loses_no_request_of_a_connection_in_use(clients):
    def all_ended() -> bool:
        for client in clients:
            client.ask()
        return all(client.end for client in clients)

    until(all_ended)
    ends = {client.end for client in clients}
    assert "closed with a response" in ends
    assert "lost" not in ends


def test_idle_connections_end_soon(clients):
    until(lambda: all(client.closed for client in clients))
