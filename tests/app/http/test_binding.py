"""HOST: which addresses the service listens on, and which one its log shows."""

import errno
import http.client
import itertools
import json
import re
import signal
import socket
import sys

import pytest

from app.http import binding
from tests.app.test_healthcheck import check
from tests.helpers.served import served
from tests.helpers.service import Service, fails, running
from tests.helpers.waiting import HANG_S


def has_ipv6() -> bool:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this system has no IPv6 address")


def health(host: str, port: int) -> int:
    connection = http.client.HTTPConnection(host, port, timeout=HANG_S)
    try:
        connection.request("GET", "/health")
        return connection.getresponse().status
    finally:
        connection.close()


def shown_url(service: Service) -> tuple[str, list[str]]:
    """End the service; return the URL that it logged, and its warnings."""
    code, output, error = service.end()
    assert (code, error) == (0, "")
    lines = [json.loads(line) for line in output.splitlines()]
    (url,) = [found[1] for line in lines if (found := re.match(r"ready in .*?: (\S+)", line["message"]))]
    return url, [line["message"] for line in lines if line["level"] == "warning"]


@pytest.mark.parametrize(
    ("host", "shown", "answering"),
    [
        ("0.0.0.0", "127.0.0.1", ["127.0.0.1"]),
        ("0", "127.0.0.1", ["127.0.0.1"]),
        ("127.0.0.1", "127.0.0.1", ["127.0.0.1"]),
        ("localhost", "localhost", ["localhost"]),
        pytest.param("::", "localhost", ["127.0.0.1", "::1", "localhost"], marks=needs_ipv6),
        pytest.param("0::0", "localhost", ["127.0.0.1", "::1"], marks=needs_ipv6),
        pytest.param("::1", "[::1]", ["::1"], marks=needs_ipv6),
    ],
)
def test_the_url_in_the_log_answers(make_model, host, shown, answering):
    with running(HOST=host, MODEL_URL=make_model().as_uri()) as service:
        service.host = "[::1]" if host == "::1" else "127.0.0.1"
        service.wait()
        assert [health(each, service.port) for each in answering] == [200] * len(answering)
        assert check(HOST=host, PORT=str(service.port)) == (0, "")
        assert shown_url(service) == (f"http://{shown}:{service.port}", [])


def health_or_not(host: str, port: int) -> int | None:
    try:
        return health(host, port)
    except OSError:
        return None


@needs_ipv6
def test_both_families_get_the_same_port_and_are_served_alike(make_app):
    with served(make_app, host="::") as service:
        port = service.server.port
        hosts = ("127.0.0.1", "::1") * 5
        sockets = [socket.create_connection((host, port), timeout=HANG_S) for host in hosts]
        for one in sockets:
            one.sendall(b"GET /health HTTP/1.1\r\n\r\n")
            assert one.recv(12) == b"HTTP/1.1 200"
        peers = {channel.peer for channel in service.listener.active_channels.values()}
        assert {str(peer) for peer in peers} == {"127.0.0.1", "::/64"}
        for one in sockets:
            one.close()


@needs_ipv6
def test_a_name_stands_for_all_of_its_addresses(make_app, monkeypatch):
    resolve = socket.getaddrinfo

    def both(host, *arguments, **options):
        hosts = ("::1", "127.0.0.1") if host == "service.example" else (host,)
        return [answer for each in hosts for answer in resolve(each, *arguments, **options)]

    monkeypatch.setattr(socket, "getaddrinfo", both)
    with served(make_app, host="service.example") as service:
        assert service.server.url == f"http://service.example:{service.server.port}"
        assert [health(host, service.server.port) for host in ("127.0.0.1", "::1")] == [200, 200]


def test_a_scope_is_escaped_in_the_url():
    with socket.create_server(("127.0.0.1", 0)) as one:
        port = one.getsockname()[1]
        assert binding.url("fe80::1%eth0", [one]) == f"http://[fe80::1%25eth0]:{port}"


@needs_ipv6
def test_a_port_that_one_family_has_taken_stops_the_start():
    with socket.create_server(("0.0.0.0", 0)) as taken:
        port = str(taken.getsockname()[1])
        assert f"can't listen on :::{port}: Address already in use" in fails(1, HOST="::", PORT=port)


_WITHOUT_IPV6 = """
import errno, os, socket, sys
from app.__main__ import main

create = socket.create_server

def without_ipv6(address, *, family=socket.AF_INET, **options):
    if family == socket.AF_INET6:
        raise OSError(errno.EAFNOSUPPORT, os.strerror(errno.EAFNOSUPPORT))
    return create(address, family=family, **options)

socket.create_server = without_ipv6
sys.exit(main([]))
"""


def test_without_ipv6_one_line_says_so_and_ipv4_is_served(make_model):
    command = (sys.executable, "-c", _WITHOUT_IPV6)
    with running(command=command, HOST="::", MODEL_URL=make_model().as_uri()) as service:
        service.wait()
        assert check(HOST="::", PORT=str(service.port)) == (0, "")
        url, warnings = shown_url(service)
        assert url == f"http://127.0.0.1:{service.port}"
        assert warnings == ["can't listen on ::: Address family not supported by protocol"]
    with running(command=command, HOST="::1") as service:
        code = service.process.wait(HANG_S)
        assert (code, service.process.stderr.read().count("\n")) == (1, 1)


@needs_ipv6
def test_after_a_signal_neither_family_accepts(make_model):
    with running(HOST="::", MODEL_URL=make_model().as_uri()) as service:
        service.wait()
        assert service.end(signal.SIGTERM)[0] == 0
        assert [health_or_not(host, service.port) for host in ("127.0.0.1", "::1")] == [None, None]


@needs_ipv6
def test_a_port_that_only_one_family_has_free_is_left(monkeypatch: pytest.MonkeyPatch) -> None:
    original, listeners, calls = socket.create_server, [], itertools.count()

    def create_server(address: tuple, *, family: int, backlog: int) -> socket.socket:
        if next(calls) == 1:  # the second address of the first attempt
            raise OSError(errno.EADDRINUSE, "another program has it")
        listeners.append(original(address, family=family, backlog=backlog))
        return listeners[-1]

    monkeypatch.setattr(socket, "create_server", create_server)
    used = binding.listen("::", 0, 1)
    *left, first, second = listeners  # more than one is left if another program really has a port
    assert used == [first, second]
    assert {listener.fileno() for listener in left} == {-1}
    assert len({listener.getsockname()[1] for listener in used}) == 1
    for listener in used:
        listener.close()
