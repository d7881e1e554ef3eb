"""Sessions for APIs, against real servers on loopback."""

import email.utils
import socket
import time
from collections.abc import Iterator
from dataclasses import dataclass, field

import pytest
import requests

from ml import api_session
from ml.api_session import may_get_secrets
from tests.helpers.endpoint import Reply, Sent, endpoint


@dataclass
class Server:
    """Answers each request with the next of its replies, then with 200."""

    replies: list[Reply]
    url: str = ""
    requests: list[Sent] = field(default_factory=list)


@pytest.fixture
def server() -> Iterator[Server]:
    running = Server([])
    with endpoint(lambda _: running.replies.pop(0) if running.replies else Reply()) as (
        running.url,
        running.requests,
    ):
        yield running


@pytest.fixture
def pauses() -> list[float]:
    return []


def test_a_transient_failure_is_retried(server: Server, pauses: list[float]) -> None:
    server.replies = [Reply(503), Reply(0), Reply(502)]
    lines: list[str] = []
    with api_session.session(wait=pauses.append, report=lines.append, backoff_s=1.0) as session:
        assert session.get(server.url).status_code == 200
    assert len(server.requests) == 4
    for number, pause in enumerate(pauses):
        assert 2**number <= pause <= 1.5 * 2**number
    assert [line.partition(":")[0] for line in lines][-1] == "status 502"


def test_the_last_response_is_returned(server: Server, pauses: list[float]) -> None:
    server.replies = [Reply(503)] * 3
    with api_session.session(attempts=3, wait=pauses.append) as session:
        assert session.get(server.url).status_code == 503
    assert len(server.requests) == 3


def test_a_final_status_is_not_retried(server: Server) -> None:
    server.replies = [Reply(404)]
    with api_session.session() as session:
        assert session.get(server.url).status_code == 404
    assert len(server.requests) == 1


def test_a_post_is_sent_once(server: Server, pauses: list[float]) -> None:
    with api_session.session(wait=pauses.append) as session:
        server.replies = [Reply(502)]
        assert session.post(server.url, data=b"x").status_code == 502
        server.replies = [Reply(0)]
        with pytest.raises(requests.ConnectionError):
            session.post(server.url, data=b"x")
    assert len(server.requests) == 2


@pytest.mark.parametrize("as_date", [False, True])
def test_retry_after_in_seconds_and_as_a_date(server: Server, pauses: list[float], as_date: bool) -> None:
    value = email.utils.formatdate(time.time() + 2000, usegmt=True) if as_date else "2000"
    server.replies = [Reply(429, headers={"Retry-After": value})]
    with api_session.session(wait=pauses.append, retry_after_max_s=5000) as session:
        session.get(server.url)
    assert 900 < pauses[0] <= 2000


def test_it_gives_up_when_asked_and_returns_the_last_response(server: Server, pauses: list[float]) -> None:
    server.replies = [Reply(503), Reply(502)]
    with api_session.session(wait=pauses.append, give_up=lambda: len(server.requests) == 2) as session:
        assert session.get(server.url).status_code == 502
    assert len(pauses) == 1


def test_retry_after_is_cut(server: Server, pauses: list[float]) -> None:
    server.replies = [Reply(503, headers={"Retry-After": "86400"})]
    with api_session.session(wait=pauses.append, retry_after_max_s=7) as session:
        session.get(server.url)
    assert pauses == [7.0]


def test_an_invalid_retry_after_is_ignored(server: Server, pauses: list[float]) -> None:
    server.replies = [Reply(503, headers={"Retry-After": "soon"})]
    with api_session.session(wait=pauses.append) as session:
        assert session.get(server.url).status_code == 200
    assert 1 <= pauses[0] <= 1.5


def test_secrets_stay_on_their_host(server: Server, tmp_path, monkeypatch: pytest.MonkeyPatch) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    monkeypatch.setenv("NETRC", str(netrc))
    with endpoint(lambda _: Reply()) as (other, elsewhere):
        locations = (f"{server.url}/same", f"{other}/other")
        server.replies = [Reply(302, headers={"Location": location}) for location in locations]
        with api_session.session(token="t0ken", headers={"X-API-Key": "key", "Accept": "x/y"}) as session:
            assert session.get(server.url).status_code == 200
        with api_session.session() as session:
            session.get(server.url)
    sent = [request.headers.get("authorization") for request in server.requests]
    assert sent == ["Bearer t0ken", "Bearer t0ken", None]
    (request,) = elsewhere
    assert (request.path, request.headers["accept"]) == ("/other", "x/y")
    assert not {"authorization", "x-api-key"} & set(request.headers)


def test_a_silent_server_times_out() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        url = f"http://127.0.0.1:{listener.getsockname()[1]}"
        with (
            api_session.session(attempts=1, timeout_s=(5.0, 0.2)) as session,
            pytest.raises(requests.RequestException),
        ):
            session.get(url)


def test_https_does_not_redirect_to_http(server: Server, tls) -> None:
    location = {"Location": f"{server.url}/elsewhere"}
    with (
        endpoint(lambda _: Reply(302, headers=location), tls) as (secure, requested),
        api_session.session(token="t0ken") as session,
    ):
        with pytest.raises(requests.RequestException, match="https to http"):
            session.get(secure)
        assert session.get(secure, allow_redirects=False).status_code == 302
    assert (len(requested), server.requests) == (2, [])


@pytest.mark.parametrize(
    ("url", "allowed"),
    [
        ("https://example.org/v1", True),
        ("http://127.0.0.1:8080", True),
        ("http://[::1]:8080", True),
        ("http://example.org", False),
        ("https://user:password@example.org", False),
        ("https://example.org?key=1", False),
        ("https://", False),
        ("https://[", False),
        ("https://example.org:0", False),
        ("ftp://127.0.0.1", False),
    ],
)
def test_where_a_token_may_be_sent(url, allowed):
    assert may_get_secrets(url) is allowed
