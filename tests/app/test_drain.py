"""The real process under load, and while it stops."""

import contextlib
import http.client
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

import pytest

from app import channel
from tests.app.service import COMMAND, Service, running
from tests.app.test_predict import RED_JPEG
from tests.conftest import REQUIRE_ALL


def begin(service: Service) -> socket.socket:
    """Send all of a request but its last byte."""
    connection = socket.create_connection(("127.0.0.1", service.port), timeout=20)
    head = "POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg"
    connection.sendall(f"{head}\r\nContent-Length: {len(RED_JPEG)}\r\n\r\n".encode() + RED_JPEG[:-1])
    return connection


def until(service: Service, path: str, status: int) -> dict:
    for _ in range(200):
        found, body = service.get(path)
        if found == status:
            return body
        time.sleep(0.01)
    raise AssertionError(f"{path} stays {found}")


def log(service: Service) -> list[dict]:
    """What the service has said, to the end."""
    assert service.process.stdout
    return [json.loads(line) for line in service.process.stdout]


def test_what_has_begun_is_answered_and_what_comes_new_is_refused(make_model):
    with running(MODEL_URL=make_model().as_uri(), LOG_LEVEL="error") as service:
        service.wait()
        with begin(service) as connection:
            time.sleep(0.1)
            service.process.send_signal(signal.SIGTERM)
            assert "stopping" in until(service, "/ready", 503)["detail"]
            assert service.get("/health")[0] == 200
            assert service.predict(RED_JPEG)[0] == 503
            connection.sendall(RED_JPEG[-1:])
            answer = connection.recv(65536)
            assert answer.startswith(b"HTTP/1.1 200 OK")
            assert b"Connection: close" in answer
            assert connection.recv(1) == b""
        assert service.process.wait(10) == 0


def test_a_drain_ends_in_time_and_a_second_signal_ends_it_at_once(make_model):
    model = make_model().as_uri()
    for seconds, signals, code in [("1", 1, 0), ("60", 2, 128 + signal.SIGTERM)]:
        with running(MODEL_URL=model, DRAIN_SECONDS=seconds) as service:
            service.wait()
            with begin(service):
                time.sleep(0.1)
                started = time.monotonic()
                for _ in range(signals):
                    service.process.send_signal(signal.SIGTERM)
                    until(service, "/ready", 503) if signals == 2 and _ == 0 else None
                assert service.process.wait(10) == code
                assert time.monotonic() - started < 4
            cut = [line["count"] for line in log(service) if line["message"] == "requests cut off"]
            assert cut == ([1] if signals == 1 else [])


def test_under_load_every_answer_is_whole_until_the_end(make_model):
    """Clients that keep sending see 200, then 503 or a refused connection, never a lost answer."""
    with running(MODEL_URL=make_model().as_uri(), LOG_LEVEL="error") as service:
        service.wait()
        statuses, lost, ended = [], [], threading.Event()

        def load() -> None:
            while not ended.is_set():
                connection = http.client.HTTPConnection("127.0.0.1", service.port, timeout=20)
                try:
                    connection.connect()
                except OSError:
                    return  # closed: nothing was accepted
                try:
                    while not ended.is_set():
                        connection.request("POST", "/predict", RED_JPEG, {"Content-Type": "image/jpeg"})
                        response = connection.getresponse()
                        response.read()
                        statuses.append(response.status)
                        if response.headers.get("Connection") == "close":
                            break
                except (OSError, http.client.HTTPException) as error:
                    lost.append(error)
                    return
                finally:
                    connection.close()

        threads = [threading.Thread(target=load) for _ in range(8)]
        for thread in threads:
            thread.start()
        time.sleep(1)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(15) == 0
        ended.set()
        for thread in threads:
            thread.join()
    assert statuses.count(200) > 50
    assert set(statuses) <= {200, 503}
    assert len(lost) <= 1, lost  # a connection may be opened in the very moment that the listener closes


def test_under_load_from_wrk_nothing_is_lost(tmp_path):
    """Each request has an id: what the service logs as answered has come to wrk, and it cuts off nothing.

    What wrk reports as failed beyond that was never read: it goes on until its time is over, first against
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
        done = function(summary)
            io.write("read errors ", summary.errors.read, " timeouts ", summary.errors.timeout)
        end
        """
    )
    with running() as service, ThreadPoolExecutor() as beside:
        service.wait()
        lines = beside.submit(log, service)  # a full pipe would stop the service
        url = f"http://127.0.0.1:{service.port}/predict"
        load = subprocess.Popen(
            [wrk, "-t1", "-c32", "-d4s", "-s", script, url], stdout=subprocess.PIPE, text=True
        )
        time.sleep(2)
        service.process.send_signal(signal.SIGTERM)
        assert service.process.wait(10) == 0
        told = load.communicate(timeout=20)[0]
        logged = lines.result()
    worked_on = {
        line["request_id"]: str(line["status"]) for line in logged if line.get("route") == "/predict"
    }
    answered = dict(line.split() for line in (tmp_path / "answered").read_text().splitlines())
    assert len(answered) > 100
    assert set(answered.values()) <= {"200", "503"}
    assert {name: status for name, status in worked_on.items() if answered.get(name) != status} == {}
    assert "requests cut off" not in {line["message"] for line in logged}
    lost, timeouts = map(int, re.search(r"read errors (\d+) timeouts (\d+)", told).groups())
    assert (lost <= 1, timeouts) == (True, 0), told


def test_as_the_first_process_of_a_container_it_drains_too(make_model):
    """The kernel gives process 1 no default handler: what it doesn't handle itself is ignored."""
    alone = (needed("unshare"), "--pid", "--fork", "--mount-proc", "--kill-child")
    tried = subprocess.run([*alone, "true"], capture_output=True, text=True)
    if tried.returncode and not REQUIRE_ALL:
        pytest.skip(f"no process namespace here: {tried.stderr.strip()}")
    assert tried.returncode == 0, tried.stderr
    model = make_model().as_uri()
    for signals, code in [(1, 0), (2, 128 + signal.SIGTERM)]:
        with running(command=(*alone, *COMMAND), MODEL_URL=model, LOG_LEVEL="error") as service:
            service.wait()
            outside = service.process.pid
            (inside,) = Path(f"/proc/{outside}/task/{outside}/children").read_text().split()
            assert re.search(r"NSpid:\t.*\t1\n", Path(f"/proc/{inside}/status").read_text())
            with begin(service) as connection:
                time.sleep(0.1)
                os.kill(int(inside), signal.SIGTERM)
                assert "stopping" in until(service, "/ready", 503)["detail"]
                if signals == 2:
                    os.kill(int(inside), signal.SIGTERM)
                else:
                    connection.sendall(RED_JPEG[-1:])
                    assert connection.recv(65536).startswith(b"HTTP/1.1 200 OK")
                assert service.process.wait(10) == code


def needed(tool: str) -> str:
    path = shutil.which(tool)
    if not path and not REQUIRE_ALL:
        pytest.skip(f"{tool} is not installed")
    assert path, f"{tool} is not installed"
    return path


_IMPATIENT = """
import sys
from app import channel
from app.__main__ import main

channel._HEADERS_S, channel._REQUEST_S = 1, 3
sys.exit(main())
"""


def test_a_request_that_trickles_ends_and_others_are_served(make_model):
    """With limits of 1 s for the headers and 3 s for all, where the service has 15 s and 120 s."""
    assert (channel._HEADERS_S, channel._REQUEST_S) == (15, 120)
    head = b"POST /predict HTTP/1.1\r\nHost: x\r\nContent-Type: image/jpeg\r\n"
    whole = head + f"Content-Length: {len(RED_JPEG)}\r\n\r\n".encode()

    def trickle(port: int, start: bytes, rest: bytes) -> tuple[float, bytes]:
        """Send a byte every tenth of a second; return how long it was borne, and the answer."""
        with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
            connection.settimeout(0.1)
            started, answer = time.monotonic(), b""
            connection.sendall(start)
            with contextlib.suppress(ConnectionError):
                while time.monotonic() - started < 10:
                    connection.sendall(rest[:1])
                    rest = rest[1:]
                    with contextlib.suppress(TimeoutError):
                        answer = connection.recv(65536)
                        break
            return time.monotonic() - started, answer

    with (
        running(command=(sys.executable, "-c", _IMPATIENT), MODEL_URL=make_model().as_uri()) as service,
        ThreadPoolExecutor() as beside,
    ):
        service.wait()
        headers = beside.submit(trickle, service.port, head, b"X-Long: " + b"x" * 200)
        body = beside.submit(trickle, service.port, whole, RED_JPEG[:200])
        slow = beside.submit(trickle, service.port, whole + RED_JPEG[:-15], RED_JPEG[-15:])
        assert service.predict(RED_JPEG)[0] == 200
        seconds, answer = headers.result()
        assert (1 <= seconds < 2.9, answer) == (True, b"")
        seconds, answer = body.result()
        assert (3 <= seconds < 6, answer) == (True, b"")
        assert slow.result()[1].startswith(b"HTTP/1.1 200 OK")
        assert service.end()[0] == 0


def test_health_answers_while_every_slot_and_place_is_taken():
    with running(MAX_CONCURRENCY="1", MAX_QUEUE="2", LOG_LEVEL="error") as service:
        service.wait()
        statuses: list[int] = []
        waits: list[float] = []
        ended = threading.Event()
        photo = RED_JPEG

        def load() -> None:
            while not ended.is_set():
                started = time.monotonic()
                status, _ = service.predict(photo)
                statuses.append(status)
                if status == 503:
                    waits.append(time.monotonic() - started)

        threads = [threading.Thread(target=load) for _ in range(12)]
        for thread in threads:
            thread.start()
        slowest = 0.0
        for _ in range(40):
            for path in ("/health", "/ready"):
                started = time.monotonic()
                assert service.get(path)[0] == 200
                slowest = max(slowest, time.monotonic() - started)
            time.sleep(0.02)
        ended.set()
        for thread in threads:
            thread.join()
        with contextlib.closing(http.client.HTTPConnection("127.0.0.1", service.port)) as connection:
            connection.request("GET", "/metrics")
            metrics = connection.getresponse().read().decode()
    assert set(statuses) == {200, 503}
    assert 'predictions_rejected_total{reason="queue_full"}' in metrics
    median = sorted(waits)[len(waits) // 2]
    print(f"slowest /health or /ready: {slowest * 1000:.0f} ms, median 503: {median * 1000:.0f} ms")
    assert slowest < 1  # the bar is 250 ms on a quiet machine
