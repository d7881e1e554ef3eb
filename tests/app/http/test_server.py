"""Connections of clients that behave badly, and the queue of the real service."""

import contextlib
import json
import os
import re
import signal
import socket
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from app.http import channel
from tests.app.routes.test_predict import RED_JPEG
from tests.helpers.served import served
from tests.helpers.service import Service, blocked, running
from tests.helpers.waiting import HANG_S, until


def connect(service: Service) -> socket.socket:
    return socket.create_connection(("127.0.0.1", service.port), timeout=HANG_S)


def photo(*headers: str) -> bytes:
    head = "\r\n".join(["POST /predict HTTP/1.1", "Host: x", "Content-Type: image/jpeg", *headers])
    return f"{head}\r\nContent-Length: {len(RED_JPEG)}\r\n\r\n".encode() + RED_JPEG


_WITH_FILES = """
import sys
from pathlib import Path
from app.__main__ import main
from app.http import channel
from app.routes import page

channel._IDLE_S, page._STATIC = int(sys.argv.pop()), Path(sys.argv.pop())
sys.exit(main([]))
"""


def with_large_file(folder: Path, idle_s: int = 120) -> tuple[str, ...]:
    """A service with a file of 1.5 MB, /static/large.js, and a small one."""
    (folder / "large.js").write_bytes(bytes(1_500_000))
    (folder / "small.js").write_bytes(b"// small")
    return (sys.executable, "-c", _WITH_FILES, str(folder), str(idle_s))


def test_clients_that_never_read_block_no_thread(make_model, tmp_path):
    command = with_large_file(tmp_path)
    with (
        running(command=command, MODEL_URL=make_model().as_uri(), LOG_LEVEL="error") as service,
        contextlib.ExitStack() as stack,
    ):
        service.wait()
        for _ in range(6):  # more than there are threads
            connection = stack.enter_context(connect(service))
            connection.sendall(b"GET /static/large.js HTTP/1.1\r\nHost: x\r\n\r\n" * 40)
        time.sleep(0.5)
        assert "http_requests_total" in service.metrics()


def test_pipelined_requests_are_all_answered_in_order(make_model, tmp_path):
    with running(
        command=with_large_file(tmp_path), MODEL_URL=make_model().as_uri(), LOG_LEVEL="error"
    ) as service:
        service.wait()
        with connect(service) as connection:
            script, health = (
                f"GET {path} HTTP/1.1\r\n\r\n".encode() for path in ("/static/small.js", "/health")
            )
            bundle = b"GET /static/large.js HTTP/1.1\r\n\r\n"
            last = photo("Connection: close", "Expect: 100-continue")
            connection.sendall((photo() + bundle + script + health) * 15 + last)
            time.sleep(0.5)  # its answers fill what the kernel holds
            read = b"".join(iter(lambda: connection.recv(1 << 20), b""))
    lengths = [int(length) for length in re.findall(rb"\r\nContent-Length: (\d+)\r\n", read)]
    assert read.count(b"HTTP/1.1 200 OK\r\n") == len(lengths) == 61
    assert len(set(lengths[1::4])) == len(set(lengths[2::4])) == len(set(lengths[3::4])) == 1
    assert lengths[1] > 1_000_000


def test_a_target_without_a_path_is_the_root(make_model):
    with running(MODEL_URL=make_model().as_uri(), LOG_LEVEL="error") as service:
        service.wait()
        for target in (b"http://localhost", b"?a=1"):
            with connect(service) as connection:
                connection.sendall(b"GET " + target + b" HTTP/1.1\r\nHost: x\r\n\r\n")
                assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_chunked_bodies(make_model):
    with running(MODEL_URL=make_model().as_uri(), MAX_UPLOAD_MB="1", LOG_LEVEL="error") as service:
        service.wait()
        head = b"POST /predict HTTP/1.1\r\nContent-Type: image/jpeg\r\nTransfer-Encoding: chunked\r\n\r\n"
        whole = f"{len(RED_JPEG):x}\r\n".encode() + RED_JPEG + b"\r\n0\r\n\r\n"
        large = b"180000\r\n" + bytes(0x180000) + b"\r\n0\r\n\r\n"
        for body, expected in [(whole, b"200"), (b"zz\r\n", b"400"), (b"0\r\n\r\n", b"400"), (large, b"413")]:
            with connect(service) as connection:
                connection.sendall(head + body)
                assert connection.recv(12) == b"HTTP/1.1 " + expected


def test_expect_continue_is_answered_only_if_a_body_is_wanted(make_model):
    with running(MODEL_URL=make_model().as_uri(), MAX_UPLOAD_MB="1", LOG_LEVEL="error") as service:
        service.wait()
        for length, expected in [("99999999", b"413"), ("-1", b"400"), ("0", b"400")]:
            with connect(service) as connection:
                head = "POST /predict HTTP/1.1\r\nExpect: 100-continue\r\nConnection: close"
                connection.sendall(f"{head}\r\nContent-Length: {length}\r\n\r\n".encode())
                assert connection.recv(12) == b"HTTP/1.1 " + expected
        with connect(service) as connection:
            head, _, body = photo("Expect: 100-continue").partition(b"\r\n\r\n")
            connection.sendall(head + b"\r\n\r\n")
            assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
            connection.sendall(body)
            assert connection.recv(12) == b"HTTP/1.1 200"


def test_errors_found_by_waitress_are_counted_and_logged_and_have_the_usual_headers(make_model):
    with running(MODEL_URL=make_model().as_uri(), MAX_UPLOAD_MB="1") as service:
        service.wait()
        ids = []
        started = time.monotonic()
        for sent, status in [(b"GARBAGE\r\n\r\n", 400), (photo("X: " + "x" * 300_000), 431)]:
            with connect(service) as connection:
                connection.sendall(sent)
                with contextlib.suppress(ConnectionError):
                    answer = connection.recv(65536).decode()
            assert f" {status} " in answer
            assert "X-Content-Type-Options: nosniff\r\n" in answer
            ids += re.findall(r"X-Request-Id: (\w+)\r\n", answer)
        elapsed_ms = 1000 * (time.monotonic() - started)
        shown = service.metrics()
        output = service.end()[1]
    assert 'http_requests_total{method="OTHER",route="unmatched",status="400"} 1.0' in shown
    assert 'route="unmatched",status="431"} 1.0' in shown
    lines = [line for line in map(json.loads, output.splitlines()) if line.get("route") == "unmatched"]
    assert [(line["request_id"], line["status"]) for line in lines] == [(ids[0], 400), (ids[1], 431)]
    assert all(0 <= line["duration_ms"] <= elapsed_ms for line in lines)


def test_idle_connections_are_closed(make_model, tmp_path):
    """After 3 s in this test; after 120 s in the service."""
    assert channel._IDLE_S == 120
    command = with_large_file(tmp_path, idle_s=3)
    with running(command=command, MODEL_URL=make_model().as_uri(), LOG_LEVEL="error") as service:
        service.wait()
        started = time.monotonic()
        with connect(service) as silent, connect(service) as kept, connect(service) as unread:
            kept.sendall(b"GET /health HTTP/1.1\r\n\r\n")
            unread.sendall(b"GET /static/large.js HTTP/1.1\r\n\r\n" * 40)
            assert kept.recv(65536).startswith(b"HTTP/1.1 200 OK")
            assert (silent.recv(1), kept.recv(1)) == (b"", b"")
            assert time.monotonic() - started >= 3
            time.sleep(5)  # a late answer to `unread` may have begun its 3 s later
            with contextlib.suppress(ConnectionError):  # no more than what the kernel held comes, and the end
                assert sum(len(piece) for piece in iter(lambda: unread.recv(1 << 20), b"")) < 40 * 1_600_000


def until_metric(service: Service, sample: str) -> None:
    until(lambda: f"\n{sample}\n" in service.metrics(), f"/metrics never says {sample}")


def predictions(output: str) -> list[dict[str, Any]]:
    return [line for line in map(json.loads, output.splitlines()) if line.get("route") == "/predict"]


def test_a_queue_timeout_is_rejected_and_the_wait_is_measured(make_model, tmp_path):
    gate, model = tmp_path / "gate", make_model().as_uri()
    with (
        blocked(gate, MODEL_URL=model, REQUEST_TIMEOUT_S="1") as service,
        ThreadPoolExecutor() as beside,
    ):
        first = beside.submit(service.predict, RED_JPEG)
        until_metric(service, "predictions_in_flight 1.0")
        status, body = service.predict(RED_JPEG)
        assert (status, "within 1 s" in body["detail"]) == (503, True)
        gate.touch()
        assert first.result()[0] == 200
        until_metric(service, 'predictions_rejected_total{reason="timeout"} 1.0')
        output = service.end()[1]
    waited = {line["status"]: line["duration_ms"] for line in predictions(output)}
    assert 900 < waited[503] < waited[200]


OPEN = ("01", "08")  # ESTABLISHED, CLOSE_WAIT: include/net/tcp_states.h of Linux


def is_open(service: Service, port: int) -> bool:
    """Whether the service has its end of a client's connection open, as the kernel's table says."""
    rows = [line.split() for line in Path("/proc/net/tcp").read_text().splitlines()]
    ends = f":{service.port:04X}", f":{port:04X}"
    return any((row[1][-5:], row[2][-5:]) == ends and row[3] in OPEN for row in rows)


def test_a_client_that_disconnects_in_the_queue_is_not_predicted(make_model, tmp_path):
    gate = tmp_path / "gate"
    with (
        blocked(gate, MODEL_URL=make_model().as_uri(), LOG_LEVEL="error") as service,
        ThreadPoolExecutor() as beside,
    ):
        first = beside.submit(service.predict, RED_JPEG)
        until_metric(service, "predictions_in_flight 1.0")
        with connect(service) as gone:
            gone.sendall(photo())
            until_metric(service, "predictions_waiting 1.0")
            port = gone.getsockname()[1]
            assert is_open(service, port)
        until(lambda: not is_open(service, port))
        gate.touch()
        assert first.result()[0] == 200
        until_metric(service, 'predictions_rejected_total{reason="disconnected"} 1.0')


def test_queued_requests_are_answered_before_the_end(make_model, tmp_path):
    gate = tmp_path / "gate"
    with blocked(gate, MODEL_URL=make_model().as_uri()) as service, ThreadPoolExecutor() as beside:
        answers = [beside.submit(service.predict, RED_JPEG) for _ in range(3)]
        until_metric(service, "predictions_in_flight 1.0")  # otherwise the third may not have come yet
        until_metric(service, "predictions_waiting 2.0")
        waiting = time.monotonic()
        service.process.send_signal(signal.SIGTERM)
        until(lambda: service.get("/ready")[0] == 503)
        time.sleep(0.5)
        waited_ms = 1000 * (time.monotonic() - waiting)
        gate.touch()
        output, error = service.process.communicate(timeout=HANG_S)
        assert [answer.result()[0] for answer in answers] == [200] * 3
    assert (service.process.returncode, error) == (0, "")
    # The time in the queue counts.
    assert min(line["duration_ms"] for line in predictions(output)) >= waited_ms


def test_endless_work_is_cut_off_soon_after_the_drain(make_model, tmp_path):
    gate, model = tmp_path / "never", make_model().as_uri()
    with (
        blocked(gate, MODEL_URL=model, DRAIN_SECONDS="1") as service,
        connect(service) as connection,
        ThreadPoolExecutor() as beside,
    ):
        connection.sendall(photo())
        until_metric(service, "predictions_in_flight 1.0")
        queued = [beside.submit(service.predict, RED_JPEG) for _ in range(2)]
        until_metric(service, "predictions_waiting 2.0")
        started = time.monotonic()
        code, output, _ = service.end()
        assert time.monotonic() - started >= 1
        assert [answer.result()[0] for answer in queued] == [503, 503]
    assert code == 0
    assert '"requests cut off"' in output


def test_a_thread_that_is_late_writes_into_nobody_s_file(make_app):
    with served(make_app) as service:
        listener = service.listener
        written_to = listener.trigger.trigger
    files = [os.pipe() for _ in range(8)]
    try:
        assert written_to in {end for pipe in files for end in pipe}  # the system has given it to another one
        listener.pull_trigger()
        for read_end, _ in files:
            os.set_blocking(read_end, False)
            with pytest.raises(BlockingIOError):
                os.read(read_end, 1)
    finally:
        for pipe in files:
            for end in pipe:
                os.close(end)
