"""Sessions for APIs, against real servers on loopback."""

import email.utils
import http.server
import threading
import time
from collections.abc import Iterator

import pytest
import requests

from ml.model import http as client


class Server(http.server.ThreadingHTTPServer):
    """Answers each request with the next of its replies, and keeps what it was sent."""

    def __init__(self) -> None:
        self.replies: list[tuple[int, dict[str, str]]] = []
        self.requests: list[tuple[str, str, dict[str, str]]] = []
        super().__init__(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server_port}"


class Handler(http.server.BaseHTTPRequestHandler):
    server: Server

    def answer(self) -> None:
        self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.requests.append((self.command, self.path, dict(self.headers)))
        status, headers = self.server.replies.pop(0) if self.server.replies else (200, {})
        if status == 0:
            self.connection.close()
            return
        self.send_response(status)
        for name, value in ({"Content-Length": "0"} | headers).items():
            self.send_header(name, value)
        self.end_headers()

    do_GET = do_POST = answer  # noqa: N815

    def log_message(self, *_: object) -> None:
        pass


@pytest.fixture
def server() -> Iterator[Server]:
    with Server() as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield running
        running.shutdown()


@pytest.fixture
def pauses() -> list[float]:
    return []


def test_a_transient_failure_is_retried(server: Server, pauses: list[float]) -> None:
    server.replies = [(503, {}), (0, {}), (502, {})]
    lines: list[str] = []
    with client.session(wait=pauses.append, report=lines.append, backoff_s=1.0) as session:
        assert session.get(server.url).status_code == 200
    assert len(server.requests) == 4
    for number, pause in enumerate(pauses):
        assert 2**number <= pause <= 1.5 * 2**number
    assert [line.partition(":")[0] for line in lines][-1] == "status 502"


def test_the_last_response_is_returned(server: Server, pauses: list[float]) -> None:
    server.replies = [(503, {})] * 3
    with client.session(attempts=3, wait=pauses.append) as session:
        assert session.get(server.url).status_code == 503
    assert len(server.requests) == 3


def test_a_final_status_is_not_retried(server: Server) -> None:
    server.replies = [(404, {})]
    with client.session() as session:
        assert session.get(server.url).status_code == 404
    assert len(server.requests) == 1


def test_a_post_is_sent_once(server: Server, pauses: list[float]) -> None:
    with client.session(wait=pauses.append) as session:
        server.replies = [(502, {})]
        assert session.post(server.url, data=b"x").status_code == 502
        server.replies = [(0, {})]
        with pytest.raises(requests.ConnectionError):
            session.post(server.url, data=b"x")
    assert len(server.requests) == 2


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_in_seconds_and_as_a_date(server: Server, pauses: list[float], as_date: bool) -> None:
    value = email.utils.formatdate(time.time() + 2000, usegmt=True) if as_date else "2000"
    server.replies = [(429, {"Retry-After": value})]
    with client.session(wait=pauses.append, retry_after_max_s=5000) as session:
        session.get(server.url)
    assert 900 < pauses[0] <= 2000


def test_it_gives_up_when_asked_and_returns_the_last_response(server: Server, pauses: list[float]) -> None:
    server.replies = [(503, {}), (502, {}), (200, {})]
    with client.session(wait=pauses.append, give_up=lambda: len(server.requests) == 2) as session:
        assert session.get(server.url).status_code == 502
    assert len(pauses) == 1


def test_retry_after_is_cut(server: Server, pauses: list[float]) -> None:
    server.replies = [(503, {"Retry-After": "86400"})]
    with client.session(wait=pauses.append, retry_after_max_s=7) as session:
        session.get(server.url)
    assert pauses == [7.0]


def test_secrets_stay_on_their_host(server: Server, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with Server() as other:
        threading.Thread(target=other.serve_forever, daemon=True).start()
        server.replies = [
            (302, {"Location": f"{server.url}/same"}),
            (302, {"Location": f"{other.url}/other"}),
        ]
        with client.session(token="t0ken", headers={"X-API-Key": "key", "Accept": "x/y"}) as session:
            assert session.get(server.url).status_code == 200
        with client.session() as session:
            session.get(server.url)
        other.shutdown()
    assert [headers.get("Authorization") for _, _, headers in server.requests] == ["Bearer t0ken"] * 2 + [
        None
    ]
    (_, path, headers) = other.requests[0]
    assert path == "/other"
    assert headers["Accept"] == "x/y"
    assert not {"Authorization", "X-API-Key"} & set(headers)


def test_a_silent_server_times_out() -> None:
    import socket

    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with (
            client.session(attempts=1, timeout_s=(5.0, 0.2)) as session,
            pytest.raises(requests.RequestException),
        ):
            session.get(url)
