"""What a person runs from a shell."""

import http.server
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
        code, table = load_test(f"http://127.0.0.1:{service.port}", "--rate", "400")
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
