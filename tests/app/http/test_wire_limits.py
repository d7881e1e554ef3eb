"""What clients may send, hold and ask for: real connections to the real server in this process."""

import contextlib
import io
import json
import re
import socket
import struct
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import pytest
from waitress.adjustments import Adjustments
from waitress.buffers import OverflowableBuffer

from app import memory
from app.http import body_budget, channel, gate, listener, request
from app.routes import page, predict
from tests.app.routes.test_predict import RED_JPEG
from tests.helpers.served import Served, served
from tests.helpers.waiting import HANG_S, until

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="only Linux has all of 127.0.0.0/8")

ATTACKER = "127.0.0.2"
MB = 1024 * 1024
HEAD = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
CHUNKED = HEAD + b"Transfer-Encoding: chunked\r\n\r\n"
PHOTO = HEAD + f"Content-Length: {len(RED_JPEG)}\r\n\r\n".encode() + RED_JPEG
KEY = {"X_API_Key": "the-key", "Content_Type": "image/jpeg"}


def announced(length: int) -> bytes:
    return HEAD + f"Content-Length: {length}\r\n\r\n".encode()


def read_all(connection: socket.socket) -> bytes:
    return b"".join(iter(lambda: connection.recv(65536), b""))


def reset(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()


@pytest.fixture
def small(monkeypatch):
    """Room for 2 MB of bodies and 30 connections."""
    monkeypatch.setattr(memory, "_MOST_UPLOADS", 2 * MB)
    monkeypatch.setattr(listener, "_CONNECTIONS", 30)


@pytest.fixture
def pause(monkeypatch):
    """Predictions wait until it is set."""
    event = threading.Event()
    original = predict.classify

    def classify(*arguments, **options):
        event.wait(60)
        return original(*arguments, **options)

    monkeypatch.setattr(predict, "classify", classify)
    yield event
    event.set()


@pytest.mark.parametrize(
    ("sent", "status"),
    [
        (CHUNKED + b"1\r\nx\r\n" * 300_000, 400),
        (CHUNKED + b"\r\n" * 500_000, 400),
        (CHUNKED + b"1;" + b"x" * MB, 400),
        (CHUNKED + b"0\r\n" + b"X: y\r\n" * 200_000, 400),
        (b"\r\n" * 500_000, 400),
        (b"GET a://" + b"1" * 15_000 + b" x y\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\nX:" + b" " * 15_000 + b"\0\r\n\r\n", 400),
        (b"GET / HTTP/1.1\r\n" + b"".join(b"a%d:\r\n" % number for number in range(200)) + b"\r\n", 400),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * MB, 431),
        (announced(3 * MB) + bytes(3 * MB), 413),  # of 4 that a rejected client may still send
        (CHUNKED + b"180000\r\n" + bytes(2 * MB), 413),
    ],
)
def test_a_request_beyond_the_limits_is_answered_although_the_client_still_sends(make_app, sent, status):
    with served(make_app, max_upload_mb=1) as service, service.connect() as connection:
        connection.sendall(sent)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 %d " % status) or head.startswith(b"HTTP/1.0 %d " % status)
        assert json.loads(body)["status"] == status
        assert b"Connection: close" in head
        until(lambda: not service.listener.budget.used)


def test_a_rejected_client_that_sends_on_and_on_is_cut_off(make_app):
    sent = 0
    with served(make_app, max_upload_mb=1) as service, service.connect() as connection:
        connection.sendall(announced(1000 * MB))
        with contextlib.suppress(OSError):
            while sent < 500 * MB:
                sent += connection.send(bytes(MB))
        assert sent < 100 * MB  # four bodies, and what the system's buffers hold
        until(lambda: service.sample("connections_closed_total", reason="rejected") == 1)


@pytest.mark.parametrize(("more", "reason"), [(b"x", "rejected"), (b"", "idle")])
def test_a_rejected_client_that_neither_sends_on_nor_leaves_is_cut_off(make_app, monkeypatch, more, reason):
    for name in ("_LINGER_S", "_LINGER_IDLE_S"):
        monkeypatch.setattr(channel, name, HANG_S)
    with served(make_app, max_upload_mb=1) as service, service.connect() as connection:
        connection.sendall(announced(1000 * MB))
        assert b" 413 " in read_all(connection)  # the service sends nothing after it
        connection.sendall(more)
        (rejected,) = service.listener.active_channels.values()
        until(lambda: rejected._dropped == len(more))
        monkeypatch.setattr(channel, "_LINGER_IDLE_S", 0)
        until(lambda: service.sample("connections_closed_total", reason=reason) == 1)
        other = {"rejected": "idle", "idle": "rejected"}[reason]
        assert service.sample("connections_closed_total", reason=other) == 0


def test_bytes_may_come_one_by_one(make_app):
    chunks = [b"%x\r\n%s\r\n" % (len(part), part) for part in (RED_JPEG[:9], RED_JPEG[9:], b"")]
    with served(make_app) as service, service.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        whole = b"\r\n" + CHUNKED + b"".join(chunks)
        for position in range(len(whole)):
            connection.sendall(whole[position : position + 1])
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


@pytest.mark.parametrize("split", range(1, len(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")))
def test_a_header_may_come_in_two_parts(split):
    data = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"
    parsed = request.Request(Adjustments(), body_budget.BodyBudget(1))
    parsed.received(data[:split])
    parsed.received(data[split:-1])
    parsed.received(data[-1:])
    assert parsed.completed
    assert parsed.error is None


def test_a_client_that_hangs_up_in_its_body_is_no_error(make_app, caplog):
    with served(make_app) as service:
        for _ in range(20):
            with service.connect() as connection:
                linger = struct.pack("ii", 1, 0)  # close() resets the connection
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
                connection.sendall(announced(100_000) + bytes(50_000))
        until(lambda: len(service.listener.active_channels) == 0)
    assert "uncaptured" not in caplog.text


def test_uploads_that_are_never_finished_are_shed_and_a_client_elsewhere_gets_through(make_app, small):
    photo = RED_JPEG + bytes(MB - len(RED_JPEG))  # bytes behind the end of a JPEG don't matter
    with served(make_app, max_upload_mb=1) as service, contextlib.ExitStack() as stack:
        stalled = [stack.enter_context(service.connect(ATTACKER)) for _ in range(20)]
        for connection in stalled:
            connection.sendall(announced(MB) + bytes(MB // 2))
        until(lambda: service.sample("predictions_rejected_total", reason="uploads") >= 16)
        for _ in range(5):
            answer = service.ask("POST", "/predict", photo, Content_Type="image/jpeg")
            assert answer.status == 200, answer.content
            assert service.listener.budget.used <= 2 * MB
            until(lambda: service.listener.budget.used <= MB)  # just after the answer, the photo still counts
        rejection = stalled[0].recv(65536)
        assert rejection.startswith(b"HTTP/1.1 503 ")
        assert b"Retry-After: 1\r\n" in rejection
        stack.close()
        until(lambda: not service.listener.budget.used)


def finish(service: Served, pause: threading.Event) -> None:
    with service.connect() as connection:
        connection.sendall(PHOTO)
        pause.set()
        assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


def cut_off(service: Served, _: threading.Event) -> None:
    with service.connect() as connection:
        connection.sendall(announced(2 * len(RED_JPEG)) + RED_JPEG)
        until(lambda: service.listener.budget.used)


def broken_chunk(service: Served, _: threading.Event) -> None:
    with service.connect() as connection:
        connection.sendall(CHUNKED + b"3\r\nabc\r\n")
        until(lambda: service.listener.budget.used)
        connection.sendall(b"nonsense\r\n")
        assert connection.recv(65536).startswith(b"HTTP/1.1 400 ")


def leave_the_queue(service: Served, pause: threading.Event) -> None:
    connections = [service.connect() for _ in range(4)]
    for connection in connections:
        connection.sendall(PHOTO)
    until(lambda: service.service.admission.waiting == 3)
    for connection in connections:
        reset(connection)
    pause.set()


def leave_with_pipelined_uploads(service: Served, pause: threading.Event) -> None:
    connection = service.connect()
    connection.sendall(PHOTO * 2 + PHOTO[:-10])
    until(lambda: service.listener.budget.used >= 2 * len(RED_JPEG))
    connection.close()
    time.sleep(0.1)  # the server notices
    pause.set()


def full_queue(service: Served, pause: threading.Event) -> None:
    with contextlib.ExitStack() as stack:
        connections = [stack.enter_context(service.connect()) for _ in range(8)]
        for connection in connections:
            connection.sendall(PHOTO)
        until(lambda: service.sample("predictions_rejected_total", reason="queue_full") == 4)
        pause.set()
        assert sorted(connection.recv(12)[-3:] for connection in connections) == [b"200"] * 4 + [b"503"] * 4


def wrong_path(service: Served, _: threading.Event) -> None:
    assert service.ask("POST", "/nothing", RED_JPEG).status == 404


WAYS = [finish, cut_off, broken_chunk, leave_the_queue, leave_with_pipelined_uploads, full_queue, wrong_path]


@pytest.mark.parametrize("way", WAYS, ids=lambda way: way.__name__)
def test_however_a_request_ends_its_bytes_are_given_back(make_app, pause, way):
    with served(make_app, max_concurrency=1, max_queue=3) as service:
        way(service, pause)
        until(lambda: not service.listener.budget.used)
        assert not service.listener.budget._unfinished


def test_idle_connections_give_way_and_requests_in_progress_do_not(make_app, small, pause):
    with served(make_app, max_concurrency=1, max_queue=3) as service, contextlib.ExitStack() as stack:
        predicting, queued = (stack.enter_context(service.connect(ATTACKER)) for _ in range(2))
        for connection in (predicting, queued):
            connection.sendall(PHOTO)
        until(lambda: service.service.admission.waiting == 1)
        kept = stack.enter_context(service.connect())
        kept.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        assert kept.recv(65536).startswith(b"HTTP/1.1 200")
        beginnings = [b"", HEAD, announced(100) + b"x"]
        for number in range(90):
            stack.enter_context(service.connect(ATTACKER)).sendall(beginnings[number % 3])
            if number % 10 == 9:
                assert service.ask("GET", "/health").status == 200
        assert len(service.listener.sockets) <= 30
        kept.sendall(b"GET /health HTTP/1.1\r\n\r\n")  # the address with most connections loses them
        assert kept.recv(65536).startswith(b"HTTP/1.1 200")
        assert service.sample("connections_closed_total", reason="limit") >= 60
        pause.set()
        for connection in (predicting, queued):
            assert connection.recv(65536).startswith(b"HTTP/1.1 200")


def test_patience_is_shorter_when_connections_are_nearly_used_up(make_app, small):
    with served(make_app, max_upload_mb=1) as service, contextlib.ExitStack() as stack:
        assert service.listener.patience == 1
        for _ in range(26):
            stack.enter_context(service.connect())
        until(lambda: service.listener.patience < 0.5)
        stack.close()
        until(lambda: service.listener.patience == 1)


def keep_bytes_in_use(service: Served, stop: threading.Event) -> None:
    """Hold one upload that is never finished; begin it again whenever it is shed."""
    while not stop.is_set():
        with contextlib.suppress(OSError), service.connect(ATTACKER) as connection:
            connection.sendall(announced(MB) + bytes(MB - 1000))
            connection.settimeout(0.1)
            while not stop.is_set():
                with contextlib.suppress(TimeoutError):
                    if not connection.recv(65536):
                        break


def test_an_attacker_that_holds_nearly_all_bytes_costs_no_slow_honest_upload(make_app, small, monkeypatch):
    """The upload takes a third of the time that it may take."""
    monkeypatch.setattr(request, "_REQUEST_S", 9)
    photo = RED_JPEG + bytes(MB // 2 - len(RED_JPEG))
    stop = threading.Event()
    with served(make_app, max_upload_mb=1) as service:
        attackers = [threading.Thread(target=keep_bytes_in_use, args=(service, stop)) for _ in range(2)]
        for attacker in attackers:
            attacker.start()
        try:
            until(lambda: service.listener.budget.used > 1.9 * MB)
            with service.connect() as connection:
                connection.sendall(announced(len(photo)))
                began = time.monotonic()
                for number in range(30):
                    connection.sendall(photo[number * len(photo) // 30 : (number + 1) * len(photo) // 30])
                    time.sleep(max(0.0, began + (number + 1) * 0.1 - time.monotonic()))
                assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")
        finally:
            stop.set()
            for attacker in attackers:
                attacker.join()


@pytest.mark.parametrize("beginning", [b"GET /health HTT", HEAD, announced(100) + b"x", CHUNKED + b"5\r\na"])
def test_a_request_that_is_never_complete_gets_408(make_app, monkeypatch, beginning):
    monkeypatch.setattr(request, "_HEADERS_S", 0.3)
    monkeypatch.setattr(request, "_REQUEST_S", 0.3)
    with served(make_app) as service, service.connect() as connection:
        connection.sendall(beginning)
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
        assert b" 408 Request Timeout\r\n" in head
        assert json.loads(body)["status"] == 408
        # Predictions would seem faster than they are.
        assert service.sample("http_request_duration_seconds_count", route="/predict") == 0
        assert service.sample("connections_closed_total", reason="slow") == 1
        until(lambda: not service.listener.budget.used)


@pytest.mark.parametrize(
    ("line", "statuses"),
    [
        (b"POST /health HTTP/1.1", (405, 413)),
        (b"PUT /predict HTTP/1.1", (405, 413)),
        (b"POST /predict/ HTTP/1.1", (404, 413)),
        (b"GET /nothing HTTP/1.1", (404, 413)),
        (b"POST /feedback HTTP/1.1", (415, 413)),
    ],
)
def test_only_photos_may_be_large(make_app, line, statuses):
    with served(make_app) as service:
        for size, status in zip((4096, 4097), statuses, strict=True):
            chunked = b"%x\r\n%s\r\n0\r\n\r\n" % (size, b"x" * size)
            for start, body in ((announced(size), b"x" * size), (CHUNKED, chunked)):
                with service.connect() as connection:
                    connection.sendall(start.replace(b"POST /predict HTTP/1.1", line) + body)
                    answer = read_all(connection) if status == 413 else connection.recv(65536)
                    assert answer.startswith(b"HTTP/1.1 %d " % status)
                    assert (b"send photos to POST /predict" in answer) == (status == 413)


NEXT = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nConnection: close\r\n\r\n"
TE = b"Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize(
    ("head", "status"),
    [
        (b"POST /health HTTP/1.0\r\nConnection: keep-alive\r\n" + TE, 400),
        (b"GET /health HTTP/1.2\r\nConnection: keep-alive\r\n" + TE, 400),
        (b"GET /health\r\n" + TE, 400),
        (b"POST /health HTTP/1.1\r\nContent-Length: 5\r\n" + TE, 400),
        (b"POST /health HTTP/1.1\r\n" + TE + TE, 400),
        (b"POST /health HTTP/1.1\r\nTransfer-Encoding: ,chunked\r\n", 400),
        (b"POST /health HTTP/1.1\r\nTransfer-Encoding: ,\r\nContent-Length: 3\r\n", 400),
        (b"POST /health HTTP/1.1\r\nTransfer-Encoding:\r\nContent-Length: 3\r\n", 400),
        (b"POST /health HTTP/1.1\r\nTransfer-Encoding: gzip, chunked\r\n", 501),
        (b"POST /health HTTP/1.1\r\ntransfer-encoding:\tCHUNKED \r\n", 405),
    ],
)
def test_a_body_whose_end_others_may_see_elsewhere_is_rejected(make_app, head, status):
    with served(make_app) as service, service.connect() as connection:
        connection.sendall(head + b"Host: x\r\n\r\n" + NEXT)
        answers = read_all(connection)
        assert b" %d " % status in answers.partition(b"\r\n")[0]
        assert len(re.findall(rb"HTTP/1\.\d \d{3} ", answers)) == (2 if status == 405 else 1)


@pytest.mark.parametrize("second", [b"Host: y", b"host:x", b"HOST:"])
def test_a_request_to_two_hosts_is_rejected(make_app, second):
    with served(make_app) as service, service.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n" + second + b"\r\n\r\n")
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
        assert b" 400 " in head
        assert "Host" in json.loads(body)["detail"]


@pytest.mark.parametrize(
    "lines", [b"GET /health HTTP/1.1\nHost: x\n\n", b"GET /health HTTP/1.1\r\nHost: x\n"]
)
@pytest.mark.parametrize("size", [1, 1000])
def test_a_line_that_ends_with_lf_alone_is_answered_at_once(make_app, lines, size):
    with served(make_app) as service, service.connect() as connection:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        with contextlib.suppress(ConnectionError):
            for position in range(0, len(lines), size):
                connection.sendall(lines[position : position + size])
        assert b" 400 Bad Request\r\n" in connection.recv(65536)


def test_a_response_has_one_connection_header(make_app):
    with served(make_app) as service:
        for start in (b"POST /predict HTTP/1.0\r\nContent-Length: 99999999\r\n", b"GET /health HTTP/1.0\r\n"):
            with service.connect() as connection:
                connection.sendall(start + b"Connection: keep-alive\r\n\r\n")
                head = connection.recv(65536).partition(b"\r\n\r\n")[0].lower()
                kept = b"get" in start.lower()
                assert re.findall(rb"\r\nconnection: (\S+)", head) == [b"keep-alive" if kept else b"close"]
        with service.connect() as connection:
            connection.sendall(b"GET /health HTTP/1.0\r\nConnection: keep-alive\r\n")
            until(lambda: service.listener.active_channels)
            service.service.admission.draining = True
            connection.sendall(b"\r\n")
            head = connection.recv(65536).partition(b"\r\n\r\n")[0].lower()
            assert re.findall(rb"\r\nconnection: (\S+)", head) == [b"close"]


def test_a_response_without_a_body_keeps_the_connection(make_app):
    with served(make_app) as service, service.connect() as connection:
        get = b"GET /static/page.css HTTP/1.1\r\nHost: x\r\n"
        connection.sendall(get.replace(b"GET", b"HEAD") + b"\r\n")
        tag = re.findall(rb"(?i)\r\netag: (\S+)", connection.recv(65536))[0]
        for more in (b"", b"Connection: keep-alive, te\r\n", b"Connection: TE, Close\r\n"):
            connection.sendall(get + more + b"If-None-Match: " + tag + b"\r\n\r\n")
            head = connection.recv(65536)
            assert head.startswith(b"HTTP/1.1 304 ")
            assert (b"\r\nConnection: close\r\n" in head) == (b"Close" in more)
        assert not connection.recv(65536)
    with served(make_app) as service, service.connect() as connection:
        signed_id = service.service.signed_predictions.sign("id", "red", "0" * 64)
        body = json.dumps({"predicted": "red", "actual": "red", "request_id": signed_id}).encode()
        kind = b"Content-Type: application/json\r\nContent-Length: %d\r\n\r\n" % len(body)
        for draining in (False, True):
            service.service.admission.draining = draining
            connection.sendall(b"POST /feedback HTTP/1.1\r\nHost: x\r\n" + kind + body)
            head = connection.recv(65536)
            assert head.startswith(b"HTTP/1.1 204 ")
            assert (b"\r\nConnection: close\r\n" in head) == draining
        assert not connection.recv(65536)


@pytest.mark.parametrize("option", ["close", "CLOSE , te", "te,close"])
def test_close_among_the_options_of_a_connection_closes_it(make_app, option):
    with served(make_app) as service, service.connect() as connection:
        connection.sendall(b"GET /health HTTP/1.1\r\nHost: x\r\nConnection: %s\r\n\r\n" % option.encode())
        assert b"\r\nConnection: close\r\n" in read_all(connection)


def test_an_error_for_head_has_no_body(make_app):
    with served(make_app) as service, service.connect() as connection:
        connection.sendall(b"HEAD /predict HTTP/1.1\r\nHost: x\r\nContent-Length: 99999999\r\n\r\n")
        head, _, body = read_all(connection).partition(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 413 ")
        assert body == b""


def test_little_is_kept_of_what_cannot_be_answered_yet(make_app, tmp_path, monkeypatch):
    """Clients that read no response hold neither a file descriptor nor much memory."""
    (tmp_path / "large.js").write_bytes(bytes(3 * MB // 2))
    (tmp_path / "small.js").write_bytes(bytes(5000))
    monkeypatch.setattr(page, "_STATIC", tmp_path)
    asked = b"GET /static/large.js HTTP/1.1\r\nHost: x\r\n\r\n"
    ranged = asked.replace(b"Host", b"Range: bytes=1-\r\nHost")
    with served(make_app) as service, contextlib.ExitStack() as stack:
        for path in ("/static/large.js", "/static/small.js"):
            assert service.ask("GET", path).status == 200
        descriptors = len(list(Path("/proc/self/fd").iterdir()))
        for start in (asked * 2, ranged * 2):
            for _ in range(10):
                connection = stack.enter_context(socket.socket())
                connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
                connection.connect(("127.0.0.1", service.server.port))
                connection.setblocking(False)
                with contextlib.suppress(BlockingIOError):
                    connection.sendall(start + b"GET / HTTP/1.1\r\nX: " + bytes(MB))
        channels = service.listener.active_channels
        until(lambda: sum(channel.blocked for channel in list(channels.values())) == 20)
        time.sleep(0.2)
        # Both ends of each connection are in this process.
        assert len(list(Path("/proc/self/fd").iterdir())) <= descriptors + 2 * 20
        for channel in list(channels.values()):
            assert len(channel._unparsed) <= 16 * 1024
            assert len(channel.outbufs[0]) + channel.total_outbufs_len
            assert not any(
                isinstance(buffer.getfile(), io.BytesIO) and len(buffer) > 64 * 1024
                for buffer in channel.outbufs
                if isinstance(buffer, OverflowableBuffer)
            )


def test_responses_that_nobody_reads_are_bounded(make_app, monkeypatch):
    most = 20_000
    monkeypatch.setattr(memory, "MOST_UNREAD", most)
    asked = b"GET /metrics HTTP/1.1\r\nHost: x\r\n\r\n" * 20  # more than the system holds
    shift = b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n"  # or the system might hold nearly all of each response
    with served(make_app) as service, contextlib.ExitStack() as stack:
        for number in range(20):
            connection = stack.enter_context(socket.socket())
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            connection.connect(("127.0.0.1", service.server.port))
            connection.sendall(number * shift + asked)
        channels = service.listener.active_channels
        until(lambda: service.sample("connections_closed_total", reason="unread") > 0)
        until(lambda: sum(channel.unread for channel in list(channels.values())) <= most)
        assert service.ask("GET", "/metrics").status == 200


def test_if_every_connection_is_being_answered_a_newcomer_waits(make_app, monkeypatch, pause):
    monkeypatch.setattr(listener, "_CONNECTIONS", 12)
    with served(make_app, max_concurrency=1, max_queue=20) as service, contextlib.ExitStack() as stack:
        connections = [stack.enter_context(service.connect()) for _ in range(10)]
        for connection in connections:
            connection.sendall(PHOTO)
        until(lambda: service.service.admission.waiting == 9)
        late = stack.enter_context(service.connect())
        late.sendall(b"GET /health HTTP/1.1\r\n\r\n")
        late.settimeout(0.3)
        with pytest.raises(TimeoutError):
            late.recv(1)
        late.settimeout(60)
        pause.set()
        assert late.recv(65536).startswith(b"HTTP/1.1 200")
        assert all(connection.recv(65536).startswith(b"HTTP/1.1 200") for connection in connections)


def test_without_a_key_no_body_is_received_and_no_place_is_taken(make_app, pause):
    with (
        served(make_app, api_keys=("the-key",), max_concurrency=1, max_queue=0) as service,
        service.connect() as paying,
    ):
        paying.sendall(PHOTO.replace(b"Host: x", b"X-API-Key: the-key"))
        until(lambda: service.service.admission.full)
        for head in (
            announced(5 * MB),
            announced(5 * MB).replace(b"Host: x", b"Expect: 100-continue"),
            CHUNKED,
        ):
            for path in (b"/predict", b"//predict", b"/%70redict", b"/feedback"):
                with service.connect() as connection:
                    connection.sendall(head.replace(b"/predict", path))
                    assert connection.recv(65536).startswith(b"HTTP/1.1 401 ")
        pause.set()
        assert paying.recv(65536).startswith(b"HTTP/1.1 200 OK")
        assert service.sample("http_requests_total", method="POST", route="/predict", status="401") == 9
        assert service.sample("predictions_rejected_total", reason="queue_full") == 0


@pytest.mark.parametrize(
    "origins", [(), ("https://a.example",), ("https://a.example", "https://b.example"), ("*",)]
)
def test_a_response_without_the_app_has_what_one_of_the_app_has(make_app, origins):
    settings = {"api_keys": ("the-key",), "cors_origins": origins}
    headers = {"Origin": "https://a.example", "X-Request-ID": "my-id"}
    with served(make_app, **settings) as service:
        response = service.ask("POST", "/predict", b"x", Origin="https://a.example", X_Request_ID="my-id")
    expected = make_app(**settings).test_client().post("/predict", data=b"x", headers=headers)
    assert response.status == expected.status_code == 401
    assert json.loads(response.content) == expected.get_json()
    theirs = {name.lower(): value for name, value in expected.headers}
    ours = {name.lower(): value for name, value in response.getheaders()}
    assert {name: ours.get(name) for name in theirs} == theirs
    assert ours.keys() - theirs.keys() == {"date", "connection"}


def test_browsers_may_ask_without_a_key_whether_they_may_send_one(make_app):
    with served(make_app, api_keys=("the-key",), cors_origins=("https://a.example",)) as service:
        asks = {"Origin": "https://a.example", "Access_Control_Request_Method": "POST"}
        response = service.ask("OPTIONS", "/predict", **asks)
        assert response.status == 200
        assert response.getheader("Access-Control-Allow-Origin") == "https://a.example"


def statuses(service: Served, count: int, **options: str) -> list[int]:
    return [service.ask("POST", "/predict", RED_JPEG, **options).status for _ in range(count)]


def test_failed_keys_are_limited_per_address_and_a_valid_key_always_passes(make_app, monkeypatch):
    monkeypatch.setattr(gate, "_FAILED_PER_S", 0.01)
    with served(make_app, api_keys=("the-key",)) as service:
        assert statuses(service, 32, X_API_Key="wrong") == [401] * 30 + [429] * 2
        response = service.ask("POST", "/predict", RED_JPEG)
        assert (response.status, json.loads(response.content)["status"]) == (429, 429)
        assert 0 < int(response.getheader("Retry-After")) <= 100
        assert statuses(service, 3, **KEY) == [200] * 3
        assert statuses(service, 1, **KEY, Authorization="Bearer other") == [200]
        assert statuses(service, 1, **KEY | {"X_API_Key": "other"}, Authorization="Bearer the-key") == [200]
        assert statuses(service, 1, source=ATTACKER) == [401]
        # Whatever an untrusted client says about its address changes nothing.
        assert statuses(service, 1, X_Forwarded_For="198.51.100.1") == [429]


def test_behind_a_trusted_proxy_the_forwarded_address_counts(make_app, monkeypatch):
    monkeypatch.setattr(gate, "_FAILED_BURST", 2)
    monkeypatch.setattr(gate, "_FAILED_PER_S", 0.01)
    from ipaddress import ip_network

    trusted = (ip_network("127.0.0.1/32"), ip_network("10.0.0.0/8"))
    with served(make_app, api_keys=("the-key",), trusted_proxies=trusted) as service:
        assert statuses(service, 3, X_Forwarded_For="198.51.100.1, 10.1.1.1") == [401, 401, 429]
        assert statuses(service, 1, X_Forwarded_For="9.9.9.9, 198.51.100.1") == [429]
        assert statuses(service, 1, X_Forwarded_For="198.51.100.2") == [401]
        assert statuses(service, 3, source=ATTACKER, X_Forwarded_For="198.51.100.3") == [401, 401, 429]


def test_feedback_is_limited_per_address_or_per_key(make_app, monkeypatch):
    monkeypatch.setattr(gate, "_FEEDBACK_BURST", 2)
    monkeypatch.setattr(gate, "_FEEDBACK_PER_S", 0.01)
    body = b'{"predicted": "red", "actual": "nothing"}'

    def feedback(service: Served, count: int, **options: str) -> list[int]:
        options["Content_Type"] = "application/json"
        return [service.ask("POST", "/feedback", body, **options).status for _ in range(count)]

    with served(make_app) as service:
        assert feedback(service, 3) == [400, 400, 429]
        assert feedback(service, 1, source=ATTACKER) == [400]
    with served(make_app, api_keys=("a", "b")) as service:
        assert feedback(service, 3, X_API_Key="a") == [400, 400, 429]
        assert feedback(service, 1, X_API_Key="b") == [400]
        assert feedback(service, 1) == [401]


def test_a_turn_of_the_loop_reads_for_a_limited_time_and_every_connection_once_a_round(make_app, monkeypatch):
    with served(make_app) as service:
        server = service.listener
    clock = SimpleNamespace(now=1000.0)
    monkeypatch.setattr(listener, "time", SimpleNamespace(monotonic=lambda: clock.now))
    server.begin_turn()
    before = server.round
    assert server.may_read(quiet=False)
    clock.now += 2 * listener._READ_S
    assert not server.may_read(quiet=False)
    assert server.may_read(quiet=True)  # such as a probe
    clock.now += 2 * listener._READ_FIRST_S
    assert not server.may_read(quiet=True)
    server.begin_turn()
    assert server.round == before  # those that were left are read first
    assert server.may_read(quiet=False)
    server.begin_turn()
    assert server.round == before + 1
