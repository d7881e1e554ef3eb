"""The proxy of a canary, by a real HAProxy."""

import contextlib
import http.client
import shutil
import subprocess
import time
import uuid
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import pytest

from deploy.engine import ContainerEngine
from deploy.haproxy import Proxy, configuration
from deploy.smoke import is_ready
from deploy.target import DeployError
from scripts.common.process import free_port
from scripts.looping.proxy_image import haproxy_image
from tests.conftest import REQUIRE_ALL, needs
from tests.helpers.container import ENGINE, needs_container
from tests.helpers.deployed_containers import engine_that
from tests.helpers.haproxy import reload_haproxy
from tests.helpers.http_server import Handler, Server
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
                yield partial(reload_haproxy, haproxy)
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


class Backend(Handler):
    """Answers every request with its server's port."""

    def do_GET(self) -> None:
        self.answer(body=str(self.server.server_address[1]).encode())


@pytest.fixture
def backends() -> Iterator[tuple[Server, Server]]:
    with Server(Backend) as first, Server(Backend) as second:
        yield first, second


@pytest.fixture(scope="module")
def image() -> Iterator[str]:
    with haproxy_image(str(ENGINE)) as tag:
        # As the proxy runs: an engine inside a container may be installed and yet start nothing.
        command = [str(ENGINE), "run", "--rm", "--network=host", "--cap-drop=ALL", tag, "haproxy", "-v"]
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode and not REQUIRE_ALL:
            pytest.skip(f"{ENGINE} starts no container here: {done.stderr.strip()[-200:]}")
        assert done.returncode == 0, done.stderr
        yield tag


@pytest.fixture
def make_proxy(port, image) -> Iterator[Callable[[str], Proxy]]:
    """Make a proxy with the path of an engine; it is removed after the test."""
    name = f"test-proxy-{uuid.uuid4().hex[:8]}"
    yield lambda engine: Proxy(ContainerEngine({"CONTAINER": engine}), name, image, f"127.0.0.1:{port}")
    ContainerEngine({"CONTAINER": str(shutil.which(str(ENGINE)))}).remove(name)


def answer_at(port: int) -> int:
    """Return the port of the backend that answers at a port; 0 if none answers."""
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", port, timeout=HANG_S)) as connection:
        try:
            connection.request("GET", "/")
            return int(connection.getresponse().read())
        except (OSError, ValueError):  # not listening yet, or the proxy's own page of an error
            return 0


LOSES_SIGNALS = '[[ "$1 $2" == "kill --signal=USR2" {}]] && touch lost && exit 0'


@needs_container
def test_a_lost_signal_is_sent_again(port, make_proxy, backends, tmp_path):
    proxy = make_proxy(engine_that(tmp_path, LOSES_SIGNALS.format("&& ! -e lost ")))
    first, second = (backend.server_port for backend in backends)
    proxy.route({first: 100})
    until(lambda: answer_at(port) == first)
    proxy.route({first: 0, second: 100})
    assert (tmp_path / "lost").exists()
    until(lambda: answer_at(port) == second)


@needs_container
def test_a_proxy_that_heeds_no_signal_is_an_error(make_proxy, backends, tmp_path):
    proxy = make_proxy(engine_that(tmp_path, LOSES_SIGNALS.format("")))
    first, second = (backend.server_port for backend in backends)
    proxy.route({first: 100})
    with pytest.raises(DeployError, match="goes on with its former shares"):
        proxy.route({first: 50, second: 50})


@needs_container
def test_what_idle_connections_know_may_be_stopped_afterwards(port, make_proxy, backends, tmp_path):
    proxy, (first, second) = make_proxy(engine_that(tmp_path, "")), backends
    proxy.route({first.server_port: 100})
    until(lambda: is_ready(f"http://127.0.0.1:{port}"))
    with contextlib.closing(Client(port)) as client:
        client.ask()
        proxy.route({second.server_port: 100})
        first.stop()
        client.ask()
        assert client.end in {"idle", "closed with a response"}
    assert answer_at(port) == second.server_port
