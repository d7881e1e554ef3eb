"""The real process under load and while it stops."""

import contextlib
import http.client
import itertools
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import flask
import pytest

from app.http import request
from tests.app.routes.test_predict import RED_JPEG
from tests.conftest import REQUIRE_ALL, not_installed
from tests.helpers.served import Served, served
from tests.helpers.service import COMMAND, Service, blocked, running
from tests.helpers.waiting import HANG_S, until


def begin(service: Service) -> socket.socket:
    """Send all of a request except its last byte; return when the service has read its header."""
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=HANG_S)
    head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\nExpect: 100-continue"
    connection.sendall(f"{head}\r\nContent-Length: {len(RED_JPEG)}\r\n\r\n".encode())
    assert connection.recv(100) == b"HTTP/1.1 100 Continue\r\n\r\n"
    connection.sendall(RED_JPEG[:-1])
    return connection


def until_stopping(service: Service) -> None:
    until(lambda: service.get("/ready")[0] == 503, "/ready stays 200")
    assert "stopping" in service.get("/ready")[1]["detail"]


def log(service: Service) -> list[dict]:
    """Return all log lines until the service ends."""
    assert service.process.stdout
    return [json.loads(line) for line in service.process.stdout]


def test_requests_in_progress_are_answered_and_new_ones_rejected(make_model):
    model = make_model().as_uri()
    with running(MODEL_URL=model, DRAIN_SECONDS="3600", LOG_LEVEL="error") as service:
        service.wait()
        with begin(service) as connection:
            service.process.send_signal(signal.SIGTERM)
            until_stopping(service)
            assert service.get("/health")[0] == 200
            assert service.predict(RED_JPEG)[0] == 503
            connection.sendall(RED_JPEG[-1:])
            answer = b"".join(iter(lambda: connection.recv(65536), b""))
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert b"Connection: close" in answer
        assert service.process.wait(HANG_S) == 0


def test_a_drain_ends_in_time_and_a_second_signal_ends_it_at_once(make_model):
    model = make_model().as_uri()
    for seconds, signals, code in [("1", 1, 0), ("3600", 2, 128 + signal.SIGTERM)]:
        with running(MODEL_URL=model, DRAIN_SECONDS=seconds) as service:
            service.wait()
            with begin(service):
                started = time.monotonic()
                service.process.send_signal(signal.SIGTERM)
                if signals == 2:
                    until_stopping(service)
                    service.process.send_signal(signal.SIGTERM)
                assert service.process.wait(HANG_S) == code
                assert signals == 2 or time.monotonic() - started >= 1
            cut = [line["count"] for line in log(service) if line["message"] == "requests cut off"]
            assert cut == ([1] if signals == 1 else [])


def test_under_load_every_response_is_complete_until_the_end(make_model):
    """Clients that keep sending get 200, then 503 or a refused connection, never a lost response.

    A client can connect at the very moment at which the listener closes. The request on that connection is
    lost, but the service never worked on it, as its log shows.
    """
    model = make_model().as_uri()
    with running(MODEL_URL=model, DRAIN_SECONDS="3600") as service, ThreadPoolExecutor() as beside:
        service.wait()
        lines = beside.submit(log, service)  # a full pipe would stop the service
        statuses, lost, ended = [], [], threading.Event()
        numbers = itertools.count()

        def load() -> None:
            while not ended.is_set():
                connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=HANG_S)
                try:
                    connection.connect()
                except OSError:
                    return  # closed: nothing was accepted
                try:
                    while not ended.is_set():
                        name = f"request-{next(numbers)}"
                        headers = {"Content-Type": "image/jpeg", "X-Request-ID": name}
                        connection.request("POST", "/predict", RED_JPEG, headers)
                        response = connection.getresponse()
                        response.read()
                        statuses.append(response.status)
                        if response.headers.get("Connection") == "close":
                            break
                except (OSError, http.client.HTTPException):
                    lost.append(name)
                    return
                finally:
                    connection.close()

        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        until(lambda: statuses.count(200) > 50)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(HANG_S) == 0
        ended.set()
        for thread in threads:
            thread.join()
        logged = {line.get("request_id") for line in lines.result()}
    assert set(statuses) <= {200, 503}
    assert not logged & set(lost)


def test_under_load_from_wrk_nothing_is_lost(tmp_path):
    """Requests have ids: wrk has received every response that the service logged; nothing was cut off.

    What wrk reports as failed beyond that was never read: it goes on until it is stopped, first against
    connections that the kernel took for a listener that then closed, then against a closed port.
    """
    wrk = needed("wrk")
    (tmp_path / "photo.jpg").write_bytes(RED_JPEG)
    script = tmp_path / "post.lua"
    script.write_text(
        f"""
        local file = io.open("{tmp_path}/photo.jpg", "rb")
        local photo, sent = file:read("*a"), 0
        local answered = io.open("{tmp_path}/answered", "w")
        request = function()
            sent = sent + 1
            local headers = {{["Content-Type"] = "image/jpeg", ["X-Request-ID"] = "wrk-" .. sent}}
            return wrk.format("POST", "/predict", headers, photo)
        end
        response = function(status, headers)
            answered:write(headers["X-Request-Id"], " ", status, "\\n")
            answered:flush()
        end
        """
    )

    def answered() -> dict[str, str]:
        """Status by request id; the last line may be half written."""
        whole = (tmp_path / "answered").read_text().rpartition("\n")[0]
        return dict(line.split() for line in whole.splitlines())

    with running(DRAIN_SECONDS="3600") as service, ThreadPoolExecutor() as beside:
        service.wait()
        lines = beside.submit(log, service)  # a full pipe would stop the service
        url = f"http://127.0.0.1:{service.port}/predict"
        load = subprocess.Popen([wrk, "-t1", "-c32", "-d1h", "-s", script, url], stdout=subprocess.DEVNULL)
        try:
            until(lambda: (tmp_path / "answered").exists() and len(answered()) > 100)
            service.process.send_signal(signal.SIGTERM)
            assert service.process.wait(HANG_S) == 0
            logged = lines.result()
            worked_on = {
                (line["request_id"], str(line["status"]))
                for line in logged
                if line.get("route") == "/predict"
            }
            until(lambda: worked_on <= set(answered().items()), "a response was lost")
        finally:
            load.kill()
            load.wait(HANG_S)
    assert set(answered().values()) <= {"200", "503"}
    assert "requests cut off" not in {line["message"] for line in logged}


def test_as_the_first_process_of_a_container_it_drains_too(make_model):
    """Process 1 gets no default handlers from the kernel: signals that it doesn't handle are ignored."""
    alone = (needed("unshare"), "--pid", "--fork", "--mount-proc", "--kill-child")
    tried = subprocess.run([*alone, "true"], capture_output=True, text=True)
    if tried.returncode and not REQUIRE_ALL:
        pytest.skip(f"no process namespace here: {tried.stderr.strip()}")
    assert tried.returncode == 0, tried.stderr
    model = make_model().as_uri()
    for signals, code in [(1, 0), (2, 128 + signal.SIGTERM)]:
        settings = {"MODEL_URL": model, "DRAIN_SECONDS": "3600", "LOG_LEVEL": "error"}
        with running(command=(*alone, *COMMAND), **settings) as service:
            service.wait()
            outside = service.process.pid
            (inside,) = Path(f"/proc/{outside}/task/{outside}/children").read_text().split()
            assert re.search(r"NSpid:\t.*\t1\n", Path(f"/proc/{inside}/status").read_text())
            with begin(service) as connection:
                os.kill(int(inside), signal.SIGTERM)
                until_stopping(service)
                if signals == 2:
                    os.kill(int(inside), signal.SIGTERM)
                else:
                    connection.sendall(RED_JPEG[-1:])
                    assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")
                assert service.process.wait(HANG_S) == code


def needed(tool: str) -> str:
    path = shutil.which(tool)
    if not path and not REQUIRE_ALL:
        pytest.skip(not_installed(tool))
    assert path, f"{tool} is not installed"
    return path


_IMPATIENT = """
import sys
from app.http import request
from app.__main__ import main

request._HEADERS_S, request._REQUEST_S = map(int, sys.argv[1:])
sys.exit(main([]))
"""


def test_a_slow_request_gets_408_and_others_are_served(make_model):
    """With limits of 3 s for the headers or for the whole request; in the service, 15 s and 120 s."""
    assert (request._HEADERS_S, request._REQUEST_S) == (15, 120)
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    whole = head + f"Content-Length: {len(RED_JPEG)}\r\n\r\n".encode()
    model = make_model().as_uri()

    def trickle(port: int, start: bytes, rest: bytes) -> tuple[float, bytes]:
        """Send a byte every tenth of a second; return the seconds until the end, and the response."""
        started = time.monotonic()
        with socket.create_connection(("127.0.0.1", port), timeout=HANG_S) as connection:
            connection.settimeout(0.1)
            answer = b""
            connection.sendall(start)
            with contextlib.suppress(ConnectionError):
                while time.monotonic() - started < HANG_S:
                    connection.sendall(rest[:1])
                    rest = rest[1:]
                    with contextlib.suppress(TimeoutError):
                        answer = connection.recv(65536)
                        break
            return time.monotonic() - started, answer

    command = (sys.executable, "-c", _IMPATIENT)
    with (
        running(command=(*command, "3", "3600"), MODEL_URL=model) as of_headers,
        running(command=(*command, "3", "3"), MODEL_URL=model) as of_all,
        ThreadPoolExecutor() as beside,
    ):
        of_headers.wait()
        of_all.wait()
        headers = beside.submit(trickle, of_headers.port, head, b"X-Long: " + b"x" * 3000)
        body = beside.submit(trickle, of_all.port, whole, RED_JPEG[:-1])
        slow = beside.submit(trickle, of_headers.port, whole + RED_JPEG[:-40], RED_JPEG[-40:])
        assert of_headers.predict(RED_JPEG)[0] == 200
        for cut in (headers, body):
            seconds, answer = cut.result()
            assert seconds >= 3
            assert b" 408 Request Timeout\r\n" in answer
        assert slow.result()[1].startswith(b"HTTP/1.1 200 OK")
        assert of_headers.end()[0] == of_all.end()[0] == 0


def test_health_answers_while_workers_are_busy_and_the_queue_is_full(make_model, tmp_path):
    gate = tmp_path / "gate"
    settings = {"MODEL_URL": make_model().as_uri(), "MAX_QUEUE": "2", "LOG_LEVEL": "error"}
    with blocked(gate, **settings) as service, ThreadPoolExecutor() as beside:
        answers = [beside.submit(service.predict, RED_JPEG) for _ in range(3)]
        until(lambda: "\npredictions_in_flight 1.0" in service.metrics())  # the third may come last
        until(lambda: "\npredictions_waiting 2.0" in service.metrics())
        status, body = service.predict(RED_JPEG)
        assert (status, "queue is full" in body["detail"]) == (503, True)
        for path in ("/health", "/ready"):
            assert service.get(path)[0] == 200
        assert not any(answer.done() for answer in answers)
        gate.touch()
        assert [answer.result()[0] for answer in answers] == [200] * 3
        assert 'predictions_rejected_total{reason="queue_full"} 1.0' in service.metrics()


def test_a_client_that_connects_at_the_last_moment_is_answered(make_app, monkeypatch):
    """The kernel has accepted the connection, so without an answer the client would see a reset."""
    service = Served(make_app(host="127.0.0.1", port=0, drain_seconds=0))
    turn, clients = service.server._turn, []

    def turn_and_connect(seconds: float) -> None:
        turn(seconds)
        if not clients:  # after the last look at the listening socket
            clients.append(service.connect())
            clients[0].sendall(b"GET /health HTTP/1.1\r\nHost: x\r\n\r\n")

    monkeypatch.setattr(service.server, "_turn", turn_and_connect)
    service.server.drain()
    assert service.server.run() == 0
    with clients[0] as client:
        assert client.recv(65536).startswith(b"HTTP/1.1 200 OK")


def test_in_a_drain_the_event_loop_renders_no_page(make_app):
    """Or /health would wait for it."""
    threads = {}
    app = make_app(host="127.0.0.1", port=0, drain_seconds=3600)

    @app.before_request
    def remember() -> None:
        threads[flask.request.path] = threading.current_thread().name

    with served(lambda **_: app) as service, service.connect() as upload:
        upload.sendall(
            b"POST /predict HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 9\r\n\r\n"
        )
        assert upload.recv(100).startswith(b"HTTP/1.1 100")  # so it is in progress
        service.server.drain()
        assert service.ask("GET", "/docs").status == 200
        assert service.ask("POST", "/predict", RED_JPEG).status == 503
    assert threads["/docs"].startswith("waitress")
