"""Photos that the service fetches: from allowed hosts only, and whatever they send."""

import contextlib
import gzip
import http.client
import json
import socket
import ssl
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from flask import Flask

from app import memory
from app.http import fetching
from app.photos import remote
from ml.model.http import Timeouts
from tests.app.routes.test_predict import BLUE_PNG, RED_JPEG, is_problem
from tests.helpers.model_server import Answer, ModelServer, redirect
from tests.helpers.served import Served, served
from tests.helpers.waiting import HANG_S, until

Make = Callable[..., Flask]


@pytest.fixture
def photos() -> Iterator[ModelServer]:
    with ModelServer().serving() as server:
        server.files |= {"/red.jpg": RED_JPEG, "/blue": BLUE_PNG, "/text": b"no photo"}
        yield server


@contextlib.contextmanager
def fetching_from(make_app: Make, *hosts: str, **settings: object) -> Iterator[Served]:
    from app.parsers import origins

    with served(make_app, allowed_image_hosts=origins("HOSTS", ",".join(hosts)), **settings) as service:
        yield service


def ask(service: Served, url: object, **headers: str) -> http.client.HTTPResponse:
    return service.ask("POST", "/predict", json.dumps({"url": url}).encode(), **headers)


def answered(response: http.client.HTTPResponse) -> dict[str, Any]:
    content: dict[str, Any] = json.loads(response.content)  # type: ignore[attr-defined]
    assert response.status == content.get("status", 200)
    return content


def detail(response: http.client.HTTPResponse, status: int) -> str:
    problem = answered(response)
    assert problem["status"] == status, problem
    text: str = problem["detail"]
    return text


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "_TOTAL_S", 0.5)
    monkeypatch.setattr(remote, "_TIMEOUTS", Timeouts(connect_s=HANG_S, read_s=HANG_S, answer_s=0.5))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch) -> None:
    """A host that stalls is waited for, however long the test takes."""
    monkeypatch.setattr(remote, "_TOTAL_S", HANG_S)
    monkeypatch.setattr(remote, "_TIMEOUTS", Timeouts(HANG_S, HANG_S, HANG_S))


def test_it_is_off_by_default(make_app: Make, photos: ModelServer) -> None:
    with served(make_app) as service:
        assert "ALLOWED_IMAGE_HOSTS" in detail(ask(service, f"{photos.url}/red.jpg"), 400)
    assert photos.seen == []


def test_a_photo_of_an_allowed_host_is_answered(make_app: Make, photos: ModelServer) -> None:
    with fetching_from(make_app, "photos.example", photos.url) as service:
        for path, label in (("/red.jpg?a=b&c=%20", "red"), ("/blue", "blue")):
            assert answered(ask(service, photos.url + path))["label"] == label
        until(lambda: service.listener.budget.used == 0)
        # A small photo in JSON is answered as ever.
        assert service.ask("POST", "/predict", b'{"image": "AAAA"}').status == 415
    assert photos.paths() == ["/red.jpg?a=b&c=%20", "/blue"]
    headers = photos.seen[0].headers
    assert headers["host"] == f"127.0.0.1:{photos.port}"
    assert headers["accept-encoding"] == "identity"
    assert not {"authorization", "cookie"} & set(headers)


def test_no_proxy_and_no_password_of_the_environment_is_used(
    photos: ModelServer, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """A proxy would resolve the name once more."""
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login user password secret")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    for name in ("http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:1")
    monkeypatch.delenv("no_proxy", raising=False)
    fetch = remote.RemotePhotos([("http", "127.0.0.1", photos.port)], 1 << 20).fetch
    assert fetch(f"{photos.url}/red.jpg", lambda _: None) == RED_JPEG
    assert "authorization" not in photos.seen[0].headers


def test_every_request_gives_its_place_back(photos: ModelServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "AT_ONCE", 1)
    fetch = remote.RemotePhotos([("http", "127.0.0.1", photos.port)], 1 << 20).fetch
    for _ in range(3):
        assert fetch(f"{photos.url}/red.jpg", lambda _: None) == RED_JPEG


def test_https_with_the_certificate_checked(
    make_app: Make, tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    with ModelServer(tls).serving() as server:
        server.files["/red.jpg"] = RED_JPEG
        with fetching_from(make_app, f"127.0.0.1:{server.port}") as service:
            assert answered(ask(service, f"{server.url}/red.jpg"))["label"] == "red"
            assert "fetches no images" in detail(ask(service, f"http://127.0.0.1:{server.port}/red.jpg"), 400)
            monkeypatch.delenv("REQUESTS_CA_BUNDLE")
            assert "SSLError" in detail(ask(service, f"{server.url}/red.jpg"), 422)


def test_https_is_for_the_name_in_the_url(tls: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not for the address that was connected to, although the certificate is valid for that."""
    asked: list[str | None] = []
    tls.sni_callback = lambda _, name, __: asked.append(name)
    monkeypatch.setattr(remote, "_addresses", lambda *_: ["127.0.0.1"])
    with ModelServer(tls).serving() as server:
        fetch = remote.RemotePhotos([("https", "photos.example", server.port)], 1000).fetch
        with pytest.raises(remote.UnprocessableEntity) as caught:
            fetch(f"https://photos.example:{server.port}/red.jpg", lambda _: None)
    assert "SSLError" in str(caught.value.description)
    assert asked[0] == "photos.example"
    assert server.seen == []


def test_addresses_of_both_families_are_tried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Although a host has many of IPv6, and this machine may not reach any of them."""
    monkeypatch.setattr(remote, "_addresses", lambda *_: ["::1"] * 8 + ["127.0.0.1"])
    with ModelServer().serving() as server:
        server.files["/red.jpg"] = RED_JPEG
        fetch = remote.RemotePhotos([("http", "photos.example", server.port)], 10_000).fetch
        assert fetch(f"http://photos.example:{server.port}/red.jpg", lambda _: None) == RED_JPEG


@pytest.mark.skipif(not socket.has_ipv6, reason="no IPv6")
def test_ipv6(make_app: Make) -> None:
    try:
        listener = socket.create_server(("::1", 0), family=socket.AF_INET6)
    except OSError:
        pytest.skip("no IPv6 on loopback")
    port = listener.getsockname()[1]

    def answer() -> None:
        connection, _ = listener.accept()
        with connection:
            connection.recv(65536)
            head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(RED_JPEG)
            connection.sendall(head + RED_JPEG)

    thread = threading.Thread(target=answer)
    thread.start()
    with listener, fetching_from(make_app, f"http://[0::1]:{port}") as service:
        assert answered(ask(service, f"http://[::1]:{port}/"))["label"] == "red"
        thread.join()


BAD_URLS = [
    "", "photo.jpg", "//127.0.0.1/x", "ftp://127.0.0.1/x", "file:///etc/passwd", "http://", "https://:1/",
    "http://[::1", "http://a:99999/", "http://127.0.0.1:0/", "data:image/png;base64,AA", "http://\udfff/",
    "http://photos.example.:80/", "http://evil.photos.example/", "http://photos.example@127.0.0.2/",
    "http://127.0.0.2#@photos.example/", "http://photos.example:81/",
    "https://photos.example/", "http://photos。example/x", "http://xn--/", "http://" + "a" * 3000, "http://2130706433/",
    "http://0x7f000001/", "http://127.1/", "javascript:alert(1)", "http://photos.example\r\nX: y/",
]  # fmt: skip


@pytest.mark.parametrize("url", BAD_URLS)
def test_other_urls_are_refused(make_app: Make, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("it connects"))
    monkeypatch.setattr(remote, "_addresses", lambda *_: pytest.fail("it resolves a name"))
    fetch = remote.RemotePhotos([("http", "photos.example", 80)], 1000).fetch
    with pytest.raises((remote.BadRequest, remote.UnprocessableEntity)) as caught:
        fetch(url, lambda _: None)
    assert "image can't be fetched" in str(caught.value.description)
    assert "Failed" not in str(caught.value.description)
    assert len(str(caught.value.description)) < 5000


@pytest.mark.parametrize("url", ["http://photos.example:99999/", "http://photos.example:0/"])
def test_a_port_that_cannot_be_is_the_client_s_mistake(url: str) -> None:
    with pytest.raises(remote.BadRequest, match="must be an http"):
        remote.RemotePhotos([("http", "photos.example", 80)], 1000).fetch(url, lambda _: None)


def test_a_host_that_speaks_another_protocol(make_app: Make) -> None:
    with host_that_sends(b"SSH-2.0-OpenSSH\r\n") as (url, _), fetching_from(make_app, url) as service:
        assert "AttributeError" not in detail(ask(service, url), 422)


def test_redirects_stay_on_allowed_hosts(make_app: Make, photos: ModelServer) -> None:
    photos.files |= dict.fromkeys(("/in", "/loop", "/file", "/bad"), b"")
    with ModelServer().serving() as other:
        other.files["/red.jpg"] = RED_JPEG
        photos.answers |= {
            "/in": [redirect("/red.jpg", 307)],
            "/out": [redirect(f"{other.url}/red.jpg")],
            "/loop": [redirect("/loop")],
            "/file": [redirect("file:///etc/passwd")],
            "/bad": [redirect("http://[::1")],
        }
        with fetching_from(make_app, photos.url) as service:
            assert answered(ask(service, f"{photos.url}/in"))["label"] == "red"
            for path, status in (("/out", 400), ("/loop", 422), ("/file", 422), ("/bad", 422)):
                assert "can't be fetched" in detail(ask(service, photos.url + path), status)
        assert other.seen == []
    assert len(photos.requests("/loop")) == 11


def test_a_name_with_a_private_address_is_refused_even_if_it_is_allowed(
    make_app: Make, photos: ModelServer
) -> None:
    url = f"http://localhost:{photos.port}"
    with fetching_from(make_app, url) as service:
        assert "isn't public" in detail(ask(service, f"{url}/red.jpg"), 400)
    assert photos.seen == []


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.216.34", True), ("2606:2800:220:1:248:1893:25c8:1946", True), ("::ffff:93.184.216.34", True),
        ("64:ff9b::5db8:d822", True), ("2002:5db8:d822::1", True),
        ("127.0.0.1", False), ("127.9.9.9", False), ("0.0.0.0", False), ("10.1.2.3", False),
        ("172.16.0.1", False), ("192.168.1.1", False), ("169.254.169.254", False), ("100.64.0.1", False),
        ("224.0.0.1", False), ("240.0.0.1", False), ("255.255.255.255", False), ("192.0.2.1", False),
        ("198.18.0.1", False), ("::", False), ("::1", False), ("fe80::1", False), ("fe80::1%eth0", False),
        ("fc00::1", False), ("fd00:ec2::254", False), ("fec0::1", False), ("ff02::1", False),
        ("2001:db8::1", False), ("::ffff:127.0.0.1", False), ("::ffff:10.0.0.1", False),
        ("::127.0.0.1", False), ("64:ff9b::7f00:1", False), ("64:ff9b::a9fe:a9fe", False),
        ("2002:7f00:1::", False), ("2001:0:0:0:0:0:80ff:fffe", False),
    ],
)  # fmt: skip
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert remote.is_public(address) is public


def test_a_name_is_resolved_once_and_one_private_address_is_enough(
    photos: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name whose addresses change between the check and the connection (DNS rebinding) gains nothing."""
    asked: list[str] = []
    answers: list[list[str]] = []
    original = socket.getaddrinfo

    def resolve(host: str, port: int, *arguments: Any, **options: Any) -> Any:
        if host != "photos.example":
            return original(host, port, *arguments, **options)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in answers.pop(0)]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    origin = ("http", "photos.example", photos.port)
    fetch = remote.RemotePhotos([origin], 1 << 20).fetch
    url = f"http://photos.example:{photos.port}/red.jpg"
    answers[:] = [["93.184.216.34", "127.0.0.1"]]
    with pytest.raises(remote.BadRequest, match="isn't public"):
        fetch(url, lambda _: None)
    assert photos.seen == []
    # What was checked is connected to: the first address that answers, under the name of the URL.
    monkeypatch.setattr(remote, "is_public", lambda _: True)
    answers[:] = [["127.255.255.254", "127.0.0.1"], ["93.184.216.34"]]
    assert fetch(url, lambda _: None) == RED_JPEG
    assert asked == ["photos.example"] * 2
    assert photos.seen[0].headers["host"] == f"photos.example:{photos.port}"


def test_what_hosts_send(make_app: Make, photos: ModelServer) -> None:
    photos.answers |= {
        "/gone": [Answer(410)],
        "/down": [Answer(503)],
        "/empty": [Answer(204)],
        "/red.jpg": [Answer(stop=300)],
        "/blue": [Answer(headers={"Content-Type": "text/html", "Content-Encoding": "gzip"})],
    }
    with fetching_from(make_app, photos.url) as service:
        for path in ("/gone", "/down", "/empty", "/missing"):
            assert "answered" in detail(ask(service, photos.url + path), 422)
        assert "the connection broke" in detail(ask(service, f"{photos.url}/red.jpg"), 422)
        assert answered(ask(service, f"{photos.url}/blue"))["label"] == "blue"
        assert detail(ask(service, f"{photos.url}/text"), 415)


def test_a_host_that_is_not_there(make_app: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    original = socket.getaddrinfo

    def resolve(host: str, *arguments: Any, **options: Any) -> Any:
        if host == "does-not-exist.invalid":  # without asking a name server
            raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")
        return original(host, *arguments, **options)

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{free.getsockname()[1]}"
        with fetching_from(make_app, url, "https://does-not-exist.invalid") as service:
            assert "no connection" in detail(ask(service, url), 422)
            assert "can't be resolved" in detail(ask(service, "https://does-not-exist.invalid/"), 422)


@pytest.mark.parametrize(
    "answer",
    [
        *(Answer(stall=0), Answer(stall=200), Answer(trickle=0.2), Answer(slow_header=True)),
        Answer(endless=(b"", b"1\r\nx\r\n", 0.02)),
    ],
)
def test_slow_hosts_are_given_up(make_app: Make, photos: ModelServer, hurried: None, answer: Answer) -> None:
    photos.files["/slow"] = bytes(1 << 20)
    photos.answers["/slow"] = [answer]
    with fetching_from(make_app, photos.url) as service:
        assert "in time" in (text := detail(ask(service, f"{photos.url}/slow"), 422)) or "complete" in text


@contextlib.contextmanager
def host_that_sends(*pieces: bytes) -> Iterator[tuple[str, threading.Thread]]:
    """A host that answers one request with these bytes, the last piece repeatedly; its URL and its thread."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def answer() -> None:
            connection, _ = listener.accept()
            with connection, contextlib.suppress(OSError):
                connection.recv(65536)
                connection.sendall(b"".join(pieces))
                while not over.wait(0.01):
                    connection.sendall(pieces[-1])

        over = threading.Event()
        thread = threading.Thread(target=answer)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}", thread
        finally:
            over.set()
            thread.join()


@pytest.mark.parametrize(
    "pieces", [(b"HTTP/1.1 200 OK\r\nX: ", b"x"), (b"HTTP/1.1 100 Continue\r\n\r\n",)], ids=["line", "1xx"]
)
def test_a_host_whose_header_never_ends_is_hung_up_on(
    make_app: Make, hurried: None, pieces: tuple[bytes, ...]
) -> None:
    with host_that_sends(*pieces) as (url, host):
        with fetching_from(make_app, url) as service:
            assert "in time" in detail(ask(service, url), 422)
        until(lambda: not host.is_alive())


WHOLE = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n%s" % (len(RED_JPEG), RED_JPEG)


@pytest.mark.parametrize(
    ("before", "status"),
    [
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 5, 200),
        (b"HTTP/1.1 100 Continue\r\n\r\n" * 5000, 422),
        (b"HTTP/1.1 200 OK\r\n" + (b"X: %s\r\n" % (b"x" * 60_000)) * 2 + WHOLE.partition(b"\r\n")[2], 422),
    ],
    ids=["few 1xx", "many 1xx", "long lines"],
)
def test_the_header_of_a_host_is_limited(make_app: Make, before: bytes, status: int) -> None:
    """Without a limit, the headers of photos that are fetched at the same time would fill the memory."""
    with host_that_sends(before, WHOLE) as (url, _), fetching_from(make_app, url) as service:
        assert ask(service, url).status == status


def test_large_photos_are_given_up(make_app: Make, photos: ModelServer) -> None:
    photos.files |= {"/fits": RED_JPEG.ljust(1 << 20, b"\0"), "/announced": bytes(1 << 30 >> 4)}
    photos.files["/chunked"] = photos.files["/announced"]
    photos.answers["/chunked"] = [Answer(chunked=True)]
    with fetching_from(make_app, photos.url, max_upload_mb=1) as service:
        assert answered(ask(service, f"{photos.url}/fits"))["label"] == "red"
        for path in ("/announced", "/chunked"):
            assert "larger than 1 MB" in detail(ask(service, photos.url + path), 413)
        until(lambda: service.listener.budget.used == 0)
    assert photos.sent("/chunked") < 32 << 20


def test_a_url_comes_alone(make_app: Make, photos: ModelServer) -> None:
    with fetching_from(make_app, photos.url) as service:
        body = json.dumps({"url": f"{photos.url}/red.jpg"}).encode()
        large = service.ask("POST", "/predict", body + b" " * 4096)
        assert "4096 bytes" in detail(large, 400)
        packed = service.ask("POST", "/predict", gzip.compress(body), Content_Encoding="gzip")
        assert "Content-Encoding" in detail(packed, 400)
        several = json.dumps({"url": f"{photos.url}/red.jpg", "image": "AA=="}).encode()
        assert "one of" in detail(service.ask("POST", "/predict", several), 400)
    assert photos.seen == []


def test_only_clients_with_a_key_can_have_photos_fetched(make_app: Make, photos: ModelServer) -> None:
    with fetching_from(make_app, photos.url, api_keys=("key",)) as service:
        assert ask(service, f"{photos.url}/red.jpg").status == 401
        assert photos.seen == []
        assert ask(service, f"{photos.url}/red.jpg", X_API_Key="key").status == 200


def in_background(service: Served, url: str) -> tuple[threading.Thread, list[http.client.HTTPResponse]]:
    responses: list[http.client.HTTPResponse] = []
    thread = threading.Thread(target=lambda: responses.append(ask(service, url)))
    thread.start()
    return thread, responses


@pytest.mark.usefixtures("patient")
def test_waiting_for_a_host_occupies_no_worker_and_few_threads(
    make_app: Make, photos: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(fetching, "AT_ONCE", 2)
    photos.answers["/red.jpg"] = [Answer(stall=0)]
    with fetching_from(make_app, photos.url, max_concurrency=1, max_queue=1) as service:
        waiting = [in_background(service, f"{photos.url}/red.jpg") for _ in range(2)]
        until(lambda: len(photos.seen) == 2)
        assert service.ask("POST", "/predict", RED_JPEG).status == 200
        assert "too many images" in detail(ask(service, f"{photos.url}/red.jpg"), 503)
        assert service.sample("predictions_rejected_total", reason="fetches") == 1
        photos.gate.set()
        for thread, _ in waiting:
            thread.join()
        assert {response.status for _, responses in waiting for response in responses} <= {200, 503}
        assert ask(service, f"{photos.url}/red.jpg").status == 200  # there is room again


def test_nothing_is_fetched_if_every_worker_is_busy(
    make_app: Make, photos: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    with fetching_from(make_app, photos.url) as service:
        monkeypatch.setattr(type(service.service.admission), "full", property(lambda _: True))
        assert "queue is full" in detail(ask(service, f"{photos.url}/red.jpg"), 503)
    assert photos.seen == []


@pytest.mark.usefixtures("patient")
def test_fetched_bytes_count_like_uploaded_ones(
    make_app: Make, photos: ModelServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    photos.files["/large"] = RED_JPEG.ljust(900_000, b"\0")
    photos.answers["/large"] = [Answer(stall=800_000)]
    monkeypatch.setattr(memory, "_MOST_UPLOADS", 4 << 20)
    with fetching_from(make_app, photos.url, max_upload_mb=1) as service:
        waiting = [in_background(service, f"{photos.url}/large") for _ in range(2)]
        until(lambda: service.listener.budget.used > 1_600_000)
        # Half of the limit is left for uploads.
        assert "memory" in detail(ask(service, f"{photos.url}/large"), 503)
        until(lambda: service.listener.budget.used < 1_700_000)  # the bytes of the third are given back
        assert service.ask("POST", "/predict", RED_JPEG.ljust(1 << 20, b"\0")).status == 200
        photos.gate.set()
        for thread, responses in waiting:
            thread.join()
            assert responses[0].status == 200
        until(lambda: service.listener.budget.used == 0)
        for _ in range(3):  # what was fetched before counts no more
            assert ask(service, f"{photos.url}/large").status == 200


@pytest.mark.usefixtures("patient")
def test_a_client_that_leaves_meanwhile(make_app: Make, photos: ModelServer) -> None:
    photos.answers["/red.jpg"] = [Answer(stall=100)]
    body = json.dumps({"url": f"{photos.url}/red.jpg"}).encode()
    with fetching_from(make_app, photos.url) as service:
        with service.connect() as connection:
            head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n" % len(body)
            connection.sendall(head + body)
            until(lambda: len(photos.seen) == 1)
        until(lambda: not service.listener.active_channels)
        photos.gate.set()
        until(lambda: service.sample("predictions_rejected_total", reason="disconnected") == 1)
        until(lambda: service.listener.budget.used == 0)
        assert ask(service, f"{photos.url}/red.jpg").status == 200


def test_without_the_server_nothing_is_fetched(make_app: Make, photos: ModelServer) -> None:
    """In a worker, a slow host would keep others from being answered."""
    client = make_app(allowed_image_hosts=(("http", "127.0.0.1", photos.port),)).test_client()
    is_problem(client.post("/predict", json={"url": f"{photos.url}/red.jpg"}), 400)
    assert photos.seen == []
