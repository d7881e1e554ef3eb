"""What a person runs from a shell."""

import contextlib
import http.server
import os
import re
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from tests.app.service import ROOT, blocked, running
from tests.waiting import HANG_S, until

CAT = ROOT / "tests" / "photos" / "cat.jpg"


def load_test(url: str, *options: str) -> tuple[int, dict[str, list[float]]]:
    """Exit code, and the table: what was answered -> count, a second, median, p99, max."""
    command = [sys.executable, ROOT / "scripts" / "load_test.py", url, CAT, "--seconds", "2", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    return done.returncode, {name: [float(figure) for figure in figures] for name, *figures in rows}


def test_load_below_and_above_capacity(tmp_path: Path) -> None:
    with running(LOG_LEVEL="error", MAX_QUEUE="1024", REQUEST_TIMEOUT_S="3600") as service:
        service.wait()
        code, table = load_test(f"http://127.0.0.1:{service.port}", "--rate", "20")
        assert code == 0
        assert set(table) == {"/health", "200"}
        _, _, median, p99, most = table["200"]
        assert 0 < median <= p99 <= most
    gate = tmp_path / "gate"  # which opens when the service has refused a request
    with blocked(gate, LOG_LEVEL="error", MAX_QUEUE="1") as service, ThreadPoolExecutor() as beside:
        run = beside.submit(load_test, f"http://127.0.0.1:{service.port}", "--rate", "100")
        until(lambda: '{reason="queue_full"} 0.0' not in service.metrics())
        gate.touch()
        code, table = run.result()
        assert code == 0
        assert set(table) == {"/health", "200", "503"}  # an overload breaks no connection


def test_load_on_a_server_that_breaks() -> None:
    class Broken(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(500)
            self.end_headers()

        def do_POST(self) -> None:
            self.close_connection = True

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Broken) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        code, table = load_test(f"http://127.0.0.1:{server.server_port}", "--rate", "20")
        server.shutdown()
    assert code == 1
    assert table["error"][0] > 0


def soak(*options: str) -> tuple[int, str]:
    command = [sys.executable, ROOT / "scripts" / "soak.py", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
    assert not done.stderr
    return done.returncode, done.stdout


def test_soak() -> None:
    code, told = soak("--seconds", "15", "--growth", "30")  # too short for memory to be flat
    assert code == 0, told
    answers = {name: int(count) for count, name in re.findall(r"^ *(\d+) (\D.*)$", told, re.MULTILINE)}
    due = {
        "/predict 200",
        "/predict 413",
        "/predict 422",
        "/predict 503",
        "/health 200",
        "/metrics 200",
        "hung up",
    }
    assert due | {"/feedback 204"} <= set(answers)
    assert "memory: " in told


def test_soak_tells_what_grows_and_what_is_answered_wrongly() -> None:
    kept: list[bytes] = []
    files: list[int] = []

    class Leaking(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            kept.append(b"\1" * (8 << 20))  # much beside what the process of all tests holds
            files.append(os.dup(0))
            self.send_response(500 if self.path == "/health" else 200)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def do_POST(self) -> None:
            self.close_connection = True

        def handle(self) -> None:
            with contextlib.suppress(ConnectionError):
                super().handle()

        def log_message(self, *_: object) -> None:
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Leaking) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        url = f"http://127.0.0.1:{server.server_port}"
        try:
            code, told = soak("--seconds", "6", "--growth", "1", "--url", url, "--pid", str(os.getpid()))
        finally:
            server.shutdown()
            for file in files:
                os.close(file)
    assert code == 1
    for reason in ("/health: status 500", "good: ", "the memory grew by", "file descriptors are left open"):
        assert reason in told


def test_soak_without_a_service() -> None:
    with running(LOG_LEVEL="error") as service:
        service.wait()
        options = ["--url", f"http://127.0.0.1:{service.port}", "--pid", str(service.process.pid)]
        with ThreadPoolExecutor() as beside:
            run = beside.submit(soak, "--seconds", "10", *options)
            predicted = r'http_requests_total\{method="POST",route="/predict",status="200"\} [1-9]'
            until(lambda: re.search(predicted, service.metrics()))
            service.process.kill()
            code, told = run.result()
    assert code == 1
    assert "has gone" in told
    assert "health" in told or "probes: " in told
