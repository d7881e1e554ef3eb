"""What a person runs from a shell."""

import contextlib
import http.server
import os
import re
import subprocess
import sys
import threading

from tests.app.service import ROOT, running

CAT = ROOT / "tests" / "photos" / "cat.jpg"


def load_test(url: str, *options: str) -> tuple[int, dict[str, list[float]]]:
    """Exit code, and the table: what was answered -> count, a second, median, p99, max."""
    command = [sys.executable, ROOT / "scripts" / "load_test.py", url, CAT, "--seconds", "2", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=90)
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    return done.returncode, {name: [float(figure) for figure in figures] for name, *figures in rows}


def test_load_below_and_above_capacity() -> None:
    with running(LOG_LEVEL="error") as service:
        service.wait()
        code, table = load_test(f"http://127.0.0.1:{service.port}", "--rate", "20")
        assert code == 0
        assert set(table) == {"/health", "200"}
        assert 15 < table["200"][0] < 70
        assert 18 <= table["/health"][0] <= 21
        _, _, median, p99, most = table["200"]
        assert 0 < median <= p99 <= most
    with running(LOG_LEVEL="error", MAX_CONCURRENCY="1", MAX_QUEUE="1") as service:
        service.wait()
        code, table = load_test(f"http://127.0.0.1:{service.port}", "--rate", "1200")
        assert code == 0
        assert set(table) == {"/health", "200", "503"}  # an overload breaks no connection
        assert table["503"][0] > table["200"][0] > 20


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
    assert table["error"][0] > 10


def soak(*options: str) -> tuple[int, str]:
    command = [sys.executable, ROOT / "scripts" / "soak.py", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=150)
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
    assert answers["/predict 200"] > 100
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
        threading.Timer(2, service.process.kill).start()
        code, told = soak(
            "--seconds", "4", "--url", f"http://127.0.0.1:{service.port}", "--pid", str(service.process.pid)
        )
    assert code == 1
    assert "has gone" in told
    assert "health" in told or "probes: " in told
