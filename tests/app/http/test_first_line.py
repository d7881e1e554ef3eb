"""Clients that speak another protocol are answered and left at once, by the real service on real sockets."""

import contextlib
import json
import socket
import ssl
import struct

import pytest

from app.http.first_line import find_problem
from tests.helpers.served import served
from tests.helpers.service import running
from tests.helpers.waiting import HANG_S

GET = b"GET /health HTTP/1.1\r\n\r\n"
PROXY_V2 = b"\r\n\r\n\0\r\nQUIT\n!\x11\0\x0c" + bytes(12)
OTHERS = {
    "TLS hello": (b"\x16\x03\x01\x02\0\x01\0\x01\xfc\x03\x03" + bytes(506), 400, "http://"),
    "first byte of TLS": (b"\x16", 400, "http://"),
    "SSLv2 hello": (b"\x80\x2e\x01\x03\x01", 400, "first line"),
    "HTTP/2": (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + bytes(9), 505, "HTTP/1.1"),
    "HTTP/3 as text": (b"GET / HTTP/3.0\r\n", 505, "HTTP/1.1"),
    "HTTP/0.9 in full": (b"GET / HTTP/0.9\r\n", 505, "HTTP/1.1"),
    "SSH": (b"SSH-2.0-OpenSSH_9.6\r\n", 400, "first line"),
    "PROXY protocol 1": (b"PROXY TCP4 192.0.2.1 192.0.2.2 4711 80\r\n" + GET, 400, "PROXY"),
    "PROXY protocol 2": (PROXY_V2 + GET, 400, "PROXY"),
    "SMTP": (b"EHLO client.example\r\n", 400, "first line"),
    "Redis": (b"*1\r\n$4\r\nPING\r\n", 400, "first line"),
    "memcached": (b"stats\r\n", 400, "first line"),
    "SOCKS 5": (b"\x05\x01\0", 400, "first line"),
    "RDP": (b"\x03\0\0\x13\x0e\xe0\0\0\0\0\0\x01\0\x08\0\x03\0\0\0", 400, "first line"),
    "JSON": (b'{"id": 1}\n', 400, "first line"),
    "a space before the method": (b" GET / HTTP/1.1\r\n", 400, "first line"),
    "a long word": (b"A" * 65, 400, "first line"),
}


@pytest.fixture(scope="module")
def service():
    with running(LOG_LEVEL="error") as service:
        service.wait()
        yield service
        assert service.end() == (0, "", "")


@pytest.mark.parametrize("name", OTHERS)
def test_it_is_answered_and_closed_although_nothing_more_comes(service, name):
    sent, status, detail = OTHERS[name]
    with socket.create_connection((service.host, service.port), timeout=HANG_S) as connection:
        connection.sendall(sent)
        answer = b"".join(iter(lambda: connection.recv(65536), b""))
    head, _, body = answer.partition(b"\r\n\r\n")
    assert head.startswith(f"HTTP/1.0 {status} ".encode())
    assert b"\r\nConnection: close" in head
    problem = json.loads(body)
    assert problem["status"] == status
    assert detail in problem["detail"]
    assert answer.count(b"HTTP/1.") == 1 + body.count(b"HTTP/1.")  # nothing that follows is answered


def test_a_tls_client_gives_up_at_once(make_app):
    context = ssl.create_default_context()
    with served(make_app) as service, service.connect() as connection:
        with pytest.raises(ssl.SSLError, match=r"(?i)wrong.version"):
            context.wrap_socket(connection, server_hostname="localhost")
        assert service.sample("http_requests_total", method="OTHER", route="unmatched", status="400") == 1
        assert service.sample("connections_closed_total", reason="slow") == 0


def test_each_costs_one_line_of_the_log_and_no_connection(make_model):
    with running(MODEL_URL=make_model().as_uri()) as service:
        service.wait()
        for _ in range(50):
            with contextlib.closing(socket.create_connection((service.host, service.port))) as one:
                one.sendall(OTHERS["TLS hello"][0])
                # Leave with a reset, as port scanners do.
                one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
                one.recv(1)
        assert service.get("/health")[0] == 200
        lines = [json.loads(line) for line in service.end()[1].splitlines()]
    lines = [line for line in lines if line.get("route") == "unmatched"]
    assert len(lines) == 50
    assert {(line["level"], line["status"], "http://" in line["error"]) for line in lines} == {
        ("info", 400, True)
    }


@pytest.mark.parametrize(
    "line", [b"GET / HTTP/1.1", b"GET /", b"M-SEARCH * HTTP/1.0", b"POST /predict HTTP/1.7 "]
)
def test_an_http_1_request_may_begin_in_any_pieces(line):
    data = line + b"\r\nHost: x\r\n\r\n"
    assert not any(find_problem(data[:length]) for length in range(1, len(data) + 1))


def test_requests_in_single_bytes_are_answered(service):
    with socket.create_connection((service.host, service.port), timeout=HANG_S) as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in b"\r\n" + GET:
            connection.send(bytes([byte]))
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
        connection.sendall(b"PRI * HTTP/2.0\r\n\r\n")  # a later request, too
        assert b"HTTP/1.0 505 " in b"".join(iter(lambda: connection.recv(65536), b""))


def test_an_upgrade_to_http_2_is_not_taken(service):
    with socket.create_connection((service.host, service.port), timeout=HANG_S) as connection:
        upgrade = b"Connection: Upgrade, HTTP2-Settings\r\nUpgrade: h2c\r\nHTTP2-Settings: AAMAAABk\r\n"
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n" + upgrade + b"\r\n")
        assert connection.recv(15) == b"HTTP/1.1 200 OK"
