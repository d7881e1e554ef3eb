"""The client in Python, against the real service, and against one that is busy, broken or slow."""

import email.utils
import io
import itertools
import json
import os
import random
import re
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import photo_classifier
import pytest
from photo_classifier import ClassifierError, Client, Prediction, RejectedError, UnreachableError
from PIL import Image

from scripts.common.process import free_port
from tests.helpers.http_server import Handler, Server
from tests.helpers.paths import ROOT
from tests.helpers.service import Service, running
from tests.helpers.waiting import HANG_S

CAT, DOG = ROOT / "tests/photos/cat.jpg", ROOT / "tests/photos/dog.jpg"
ANSWER = {
    "label": "cat",
    "probabilities": {"cat": 1.0, "dog": 0.0},
    "model": {"version": "1", "arch": "a"},
    "request_id": "x",
}


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running(API_KEYS="the-kéy") as service:
        service.wait()
        yield service


@pytest.fixture
def client(service: Service) -> Iterator[Client]:
    with Client(f"http://127.0.0.1:{service.port}/", key="the-kéy") as client:
        yield client


class Scripted:
    """A service whose answers are given: status, headers and body of each request in turn."""

    def __init__(self) -> None:
        self.answers: list[tuple[int, dict[str, str], bytes]] = []
        self.seen: list[float] = []  # when requests came
        self.paths: list[str] = []
        self.ids: list[str] = []
        self.busy = self.busiest = 0
        self.work: Callable[[], None] = lambda: None
        scripted, lock = self, threading.Lock()

        class Answering(Handler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                with lock:
                    scripted.seen.append(time.monotonic())
                    scripted.paths.append(self.path)
                    scripted.ids.append(self.headers.get("X-Request-ID", ""))
                    scripted.busy += 1
                    scripted.busiest = max(scripted.busiest, scripted.busy)
                    answers = scripted.answers
                    answer = answers.pop(0) if len(answers) > 1 else answers[0]
                scripted.work()
                with lock:
                    scripted.busy -= 1
                status, headers, body = answer
                self.answer(status, body, headers)

        self.server = Server(Answering)
        self.url = self.server.url


@pytest.fixture
def scripted() -> Iterator[Scripted]:
    scripted = Scripted()
    with scripted.server:
        yield scripted


def good(**changes: object) -> tuple[int, dict[str, str], bytes]:
    return 200, {}, json.dumps(ANSWER | changes).encode()


def problem(status: int, **headers: str) -> tuple[int, dict[str, str], bytes]:
    body = {"title": "A title", "status": status, "detail": "what to do", "request_id": "id-1"}
    return (
        status,
        {name.replace("_", "-"): value for name, value in headers.items()},
        json.dumps(body).encode(),
    )


def test_the_client_passes_on_what_is_asked_for(scripted: Scripted) -> None:
    scripted.answers = [good()]
    with Client(f"{scripted.url}/below/") as client:
        for keep in (None, True, False):
            client.predict(CAT, keep=keep)
        list(client.predict_many([CAT], explain=True, top=2, keep=True))
    queries = ("", "?keep=1", "?keep=0", "?explain=1&top=2&keep=1")
    assert scripted.paths == [f"/below/predict{query}" for query in queries]


def test_every_kind_of_photo(client: Client) -> None:
    image = Image.open(CAT)
    photos = [
        *(str(CAT), CAT, CAT.read_bytes(), bytearray(CAT.read_bytes()), memoryview(CAT.read_bytes())),
        *(
            io.BytesIO(CAT.read_bytes()),
            image,
            image.convert("RGBA"),
            image.convert("CMYK"),
            image.convert("P"),
            image.convert("L").convert("I").point(lambda value: value * 257),
            Image.fromarray(np.asarray(image.convert("L")).astype(np.uint16) * 257),
            Image.frombytes(
                "I;16B", image.size, (np.asarray(image.convert("L")).astype(">u2") * 257).tobytes()
            ),
        ),
    ]
    for photo in photos:
        answer = client.predict(photo)
        assert answer.label == "cat"
        assert list(answer.probabilities) == ["cat", "dog"]
        assert sum(answer.probabilities.values()) == pytest.approx(1, abs=1e-5)
    with CAT.open("rb") as file:
        assert client.predict(file).label == "cat"


def test_sixteen_bits_are_scaled_and_not_clipped() -> None:
    grey = np.arange(256, dtype=np.uint16).repeat(64).reshape(128, 128)
    for mode, order in (("I;16", "<u2"), ("I;16B", ">u2")):
        image = Image.frombytes(mode, (128, 128), (grey * 257).astype(order).tobytes())
        sent = np.asarray(Image.open(io.BytesIO(photo_classifier._read(image))).convert("L"))
        assert np.abs(sent.astype(int) - grey).max() <= 8
    with pytest.raises(ClassifierError, match="its mode is F"):
        photo_classifier._read(Image.new("F", (8, 8)))


def test_an_image_of_pil_loses_little() -> None:
    image, expected = Image.open(CAT), io.BytesIO()
    image.save(expected, "JPEG", quality=95)
    sent = Image.open(io.BytesIO(photo_classifier._read(image)))
    assert (sent.format, sent.quantization) == ("JPEG", Image.open(expected).quantization)
    transparent = image.convert("RGBA")
    transparent.putpixel((0, 0), (1, 2, 3, 0))
    sent = Image.open(io.BytesIO(photo_classifier._read(transparent)))
    assert (sent.format, sent.getpixel((0, 0))) == ("PNG", (1, 2, 3, 0))
    few = Image.new("RGBA", (8, 8), (9, 9, 9, 255))
    few.putpixel((0, 0), (0, 0, 0, 0))
    sent = Image.open(io.BytesIO(photo_classifier._read(few.quantize(2))))  # of a palette with transparency
    assert (sent.format, sent.getpixel((0, 0))) == ("PNG", (0, 0, 0, 0))


def test_an_image_of_pil_is_turned_as_its_exif_says(client: Client) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    turned, buffer = Image.open(CAT).rotate(90, expand=True), io.BytesIO()
    turned.save(buffer, "JPEG", exif=exif, quality=95)
    straight = client.predict(CAT).probabilities["cat"]
    assert client.predict(Image.open(buffer)).probabilities["cat"] == pytest.approx(straight, abs=0.01)


def test_answers_have_types(client: Client) -> None:
    answer = client.predict(CAT, explain=True, top=1)
    assert isinstance(answer, Prediction)
    assert list(answer.probabilities) == ["cat"]
    assert answer.known is not None
    assert 0 <= answer.known <= 1
    assert answer.model_arch.startswith("efficientnet_lite0")
    assert answer.explanation is not None
    assert len(answer.explanation.box) == 4
    assert answer.explanation.overlay.startswith("data:image/png;base64,")
    assert client.predict(CAT).explanation is None


def test_feedback(client: Client) -> None:
    answer = client.predict(CAT)
    client.feedback(answer, "dog")
    with pytest.raises(RejectedError, match="'actual' must be one of"):
        client.feedback(answer, "horse")


def test_errors_have_the_service_s_words(client: Client, service: Service, tmp_path: Path) -> None:
    with pytest.raises(RejectedError, match="text, not an image") as caught:
        client.predict(b"text")
    assert (caught.value.status, caught.value.title) == (415, "Unsupported Media Type")
    assert len(caught.value.request_id) == 32
    with pytest.raises(RejectedError, match="10 MB") as caught:
        client.predict(bytes(20 << 20))
    assert caught.value.status == 413
    with Client(client._url, key="another") as stranger, pytest.raises(RejectedError) as caught:
        stranger.predict(CAT)
    assert caught.value.status == 401
    for unreadable in (tmp_path / "missing.jpg", tmp_path, "a\0b", 5):
        with pytest.raises(ClassifierError, match="can't be read"):
            client.predict(unreadable)  # type: ignore[arg-type]


def test_many_photos_are_answered_in_their_order(client: Client, tmp_path: Path) -> None:
    buffer = io.BytesIO()
    Image.open(CAT).save(buffer, "PNG")
    broken = Image.open(io.BytesIO(buffer.getvalue()[:1000] + bytes(9000)))  # PIL reads it late
    photos = [CAT, DOG, tmp_path / "missing", broken] * 5
    answers = list(client.predict_many(photos, at_once=4))
    labels = [answer.label if isinstance(answer, Prediction) else type(answer).__name__ for answer in answers]
    assert labels == ["cat", "dog", "ClassifierError", "ClassifierError"] * 5


def test_a_generator_may_close_each_photo(client: Client) -> None:
    def files() -> Iterator[photo_classifier.Photo]:
        for _ in range(10):
            with CAT.open("rb") as file:
                yield file
            with Image.open(CAT) as image:
                yield image
        with Image.open(CAT) as image:
            closed = image
        yield closed

    *answers, error = client.predict_many(files(), at_once=4)
    assert [answer.label for answer in answers if isinstance(answer, Prediction)] == ["cat"] * 20
    assert isinstance(error, ClassifierError)


def test_many_photos_are_read_and_sent_a_few_at_a_time(scripted: Scripted) -> None:
    scripted.answers = [good()]
    scripted.work = lambda: time.sleep(0.02)
    read = itertools.count()
    endless = (b"photo" for _ in read)
    with Client(scripted.url) as client:
        answers = client.predict_many(endless, at_once=3)
        for _ in range(20):
            next(answers)
        answers.close()  # type: ignore[attr-defined]
        assert next(read) <= 20 + 2 * 3
        assert scripted.busiest <= 3
        assert list(client.predict_many([])) == []


@pytest.mark.parametrize("status", [408, 425, 429, 502, 503, 504])
def test_a_busy_service_is_asked_again(scripted: Scripted, status: int) -> None:
    scripted.answers = [problem(status, Retry_After="0"), problem(status), good()]
    with Client(scripted.url) as client:
        assert client.predict(b"photo").label == "cat"
    assert len(scripted.seen) == 3


@pytest.mark.parametrize("form", ["seconds", "date"])
def test_retry_after_is_the_least_pause(scripted: Scripted, form: str) -> None:
    least = time.monotonic() + 2
    in_whole_seconds = email.utils.formatdate(time.time() + 3, usegmt=True)  # at least two from now
    after = "2" if form == "seconds" else in_whole_seconds
    scripted.answers = [problem(503, Retry_After=after), good()]
    with Client(scripted.url) as client:
        client.predict(b"photo")
    first, second = scripted.seen
    assert second > (first + 2 if form == "seconds" else least) - 0.1


@pytest.mark.parametrize("after", ["100", "9" * 500, "Fri, 31 Dec 9999 23:59:59 GMT"])
def test_a_pause_beyond_the_deadline_is_not_made(scripted: Scripted, after: str) -> None:
    scripted.answers = [problem(503, Retry_After=after)]
    with Client(scripted.url, deadline_s=5) as client, pytest.raises(RejectedError, match="what to do"):
        client.predict(b"photo")
    assert len(scripted.seen) == 1


@pytest.mark.parametrize("after", ["", "-1", "soon", "²"])
def test_a_service_that_stays_busy_is_given_up(
    scripted: Scripted, after: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(random, "uniform", lambda _, most: most)  # no attempt begins just before the deadline
    scripted.answers = [problem(503, Retry_After=after)]
    with Client(scripted.url, deadline_s=5) as client, pytest.raises(RejectedError) as caught:
        client.predict(b"photo")
    assert caught.value.request_id == "id-1"
    assert 1 < len(scripted.seen) < 10


@pytest.mark.parametrize("status", [400, 401, 404, 413, 415, 422, 500])
def test_what_is_wrong_is_not_sent_again(scripted: Scripted, status: int) -> None:
    scripted.answers = [problem(status)]
    with Client(scripted.url) as client, pytest.raises(RejectedError, match=f"{status} A title: what to do"):
        client.predict(b"photo")
    assert len(scripted.seen) == 1


def test_a_service_that_starts_meanwhile(scripted: Scripted) -> None:
    port = free_port()
    started: list[Service] = []

    def start() -> None:
        time.sleep(0.5)
        started.append(Service(ROOT, PORT=str(port)))

    thread = threading.Thread(target=start)
    thread.start()
    try:
        with Client(f"http://127.0.0.1:{port}") as client:
            assert client.predict(CAT).label == "cat"
    finally:
        thread.join()
        started[0].process.kill()
        started[0].process.communicate()


def test_a_service_that_is_not_there() -> None:
    url = f"http://127.0.0.1:{free_port()}"
    with Client(url, deadline_s=0.5) as client, pytest.raises(UnreachableError, match=r"127\.0\.0\.1"):
        client.predict(b"photo")
    for wrong in ("127.0.0.1:80", "", "http://", "ftp://127.0.0.1"):
        with Client(wrong) as client, pytest.raises(ClassifierError):
            client.predict(b"photo")


def test_a_service_that_never_answers_is_given_up(scripted: Scripted) -> None:
    gate = threading.Event()
    scripted.work = gate.wait  # type: ignore[assignment]
    scripted.answers = [good()]
    with Client(scripted.url, deadline_s=1) as client, pytest.raises(UnreachableError):
        client.predict(b"photo")
    gate.set()


@pytest.mark.parametrize(("status", "chunked"), [(200, False), (200, True), (302, False)])
def test_an_answer_that_is_not_complete_by_the_deadline_is_given_up(status: int, chunked: bool) -> None:
    """Though none of its bytes keeps the client waiting for long; the last one comes after 14 s."""
    requests: list[str] = []
    _, _, body = good()

    class Dripping(Handler):
        def do_POST(self) -> None:
            requests.append(self.path)
            self.rfile.read(int(self.headers["Content-Length"]))
            self.send_response(status)
            self.send_header("Location", "/elsewhere")
            length = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(body)))
            self.send_header(*length)
            self.end_headers()
            for byte in body:
                time.sleep(0.1)
                self.wfile.write(b"1\r\n%c\r\n" % byte if chunked else b"%c" % byte)
            self.wfile.write(b"0\r\n\r\n" if chunked else b"")

    with Server(Dripping) as server, Client(server.url, timeout_s=HANG_S, deadline_s=1) as client:
        with pytest.raises(UnreachableError):
            client.predict(b"photo")
        assert len(requests) <= 1


def test_an_answer_that_breaks_off_is_asked_for_again(scripted: Scripted) -> None:
    status, _, body = good()
    scripted.answers = [(status, {"Content-Length": "1000"}, body), good()]
    with Client(scripted.url) as client:
        assert client.predict(b"photo").label == "cat"
        assert len(scripted.seen) == 2
        client.predict(b"photo")
    first, again, other = scripted.ids
    assert len(first) == 32
    assert first == again != other  # by which the operator finds what was kept of both attempts


def test_an_answer_that_is_too_large_is_not_read_to_its_end(scripted: Scripted) -> None:
    scripted.answers = [(200, {}, bytes(17 << 20))]
    with Client(scripted.url) as client, pytest.raises(ClassifierError, match="exceeds 16 MB"):
        client.predict(b"photo")
    assert len(scripted.seen) == 1


def test_a_connection_is_used_again(scripted: Scripted) -> None:
    threads: set[threading.Thread] = set()  # the server has one for each connection
    handler = scripted.server.RequestHandlerClass
    handler.protocol_version = "HTTP/1.1"  # type: ignore[attr-defined]
    scripted.work = lambda: threads.add(threading.current_thread())
    scripted.answers = [problem(503, Retry_After="0"), good()]
    with Client(scripted.url) as client:
        for _ in range(3):
            client.predict(b"photo")
    assert len(threads) == 1


def test_answers_of_something_else(scripted: Scripted) -> None:
    others = [b"<html>", b"", b"[]", b"{}", b"null", b'{"label": "cat"}', b"\xff" * 1000]
    with Client(scripted.url) as client:
        for body in others:
            scripted.answers = [(200, {}, body)]
            with pytest.raises(ClassifierError, match="isn't one of this service"):
                client.predict(b"photo")
            scripted.answers = [(403, {}, body)]
            with pytest.raises(RejectedError, match="403") as caught:
                client.predict(b"photo")
            assert caught.value.request_id == ""
        scripted.answers = [(302, {"Location": "https://elsewhere.example/"}, b"")]
        with pytest.raises(RejectedError, match=r"is at https://elsewhere\.example/; use"):
            client.predict(b"photo")
        scripted.answers = [(301, {"Location": "/photos/predict?top=1"}, b"")]
        with pytest.raises(RejectedError, match=f"is at {re.escape(scripted.url)}/photos; use"):
            client.predict(b"photo")
        scripted.answers = [(300, {}, b"")]
        with pytest.raises(RejectedError, match="at another address; use"):
            client.predict(b"photo")


def test_what_cannot_be_sent_is_an_error_of_the_client(scripted: Scripted) -> None:
    """Any other error would end predict_many."""
    for options in ({"url": f"http://{'a' * 70}.example"}, {"url": scripted.url, "timeout_s": 0}):
        with Client(**options) as client, pytest.raises(ClassifierError):  # type: ignore[arg-type]
            client.predict(b"photo")
    with pytest.raises(ValueError, match="one line"):
        Client(scripted.url, "key\nX-Header: 1")


def test_no_password_of_the_user_is_sent(
    scripted: Scripted, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    netrc = tmp_path / "netrc"
    netrc.write_text("machine 127.0.0.1 login me password secret\n")
    netrc.chmod(0o600)
    monkeypatch.setenv("NETRC", str(netrc))
    headers: list[str | None] = []
    original = scripted.server.RequestHandlerClass.do_POST  # type: ignore[attr-defined]

    def record(handler: Handler) -> None:
        headers.append(handler.headers["Authorization"])
        original(handler)

    scripted.server.RequestHandlerClass.do_POST = record  # type: ignore[attr-defined]
    scripted.answers = [good()]
    for key in (None, "the-key\n"):
        with Client(scripted.url, key) as client:
            client.predict(b"photo")
    assert headers == [None, "Bearer the-key"]


def test_it_can_be_installed_with_its_types(tmp_path: Path) -> None:
    """And it needs nothing but requests."""
    done = subprocess.run(
        [
            *(sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--no-build-isolation"),
            *("--no-index", "--disable-pip-version-check", "--target", tmp_path / "site", copied(tmp_path)),
        ],
        capture_output=True, text=True,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "site/photo_classifier/py.typed").is_file()
    code = "import sys, photo_classifier; print(sorted({name.partition('.')[0] for name in sys.modules}))"
    names = subprocess.run(
        [sys.executable, "-c", code],
        env=os.environ | {"PYTHONPATH": str(tmp_path / "site")},
        capture_output=True, text=True, check=True,
    ).stdout  # fmt: skip
    assert "'requests'" in names
    assert not {"'app'", "'ml'", "'PIL'", "'numpy'"} & set(names.strip("[]\n").split(", "))


def copied(folder: Path) -> Path:
    """A copy, because a build leaves files behind."""
    return Path(shutil.copytree(ROOT / "client", folder / "client"))


def test_one_file_is_enough(tmp_path: Path) -> None:
    """As client/README.md says."""
    (tmp_path / "photo_classifier.py").write_text(Path(photo_classifier.__file__).read_text("utf-8"), "utf-8")
    subprocess.run([sys.executable, "-c", "from photo_classifier import Client"], cwd=tmp_path, check=True)


class Slow(Handler):
    """Takes a body as a slow line does."""

    def do_POST(self) -> None:
        left = int(self.headers["Content-Length"])
        while left:
            left -= len(self.rfile.read(min(left, 1 << 17)))
            time.sleep(0.02)
        self.answer(200, json.dumps(ANSWER).encode())


def test_a_large_photo_may_take_longer_than_connecting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(photo_classifier, "_CONNECT_S", 0.4)
    with Server(Slow) as server, Client(server.url, deadline_s=HANG_S) as client:
        assert client.predict(bytes(12 << 20)).label == "cat"  # takes 2 s


def test_the_deadline_ends_the_sending_too() -> None:
    with Server(Slow) as server, Client(server.url, deadline_s=1) as client:
        problem = re.compile("not sent in time|timed out")
        with pytest.raises(UnreachableError, match=problem):
            client.predict(bytes(64 << 20))  # would take 10 s
