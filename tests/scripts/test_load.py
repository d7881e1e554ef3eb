"""The load test and the soak test, on the service and on servers that fail."""

import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from scripts.stress.usage import Usage, growth
from tests.helpers.endpoint import Reply, endpoint
from tests.helpers.http_server import Handler, Server
from tests.helpers.paths import ROOT
from tests.helpers.service import blocked, running
from tests.helpers.waiting import HANG_S, until

CAT = ROOT / "tests" / "photos" / "cat.jpg"


def load_test(url: str, *options: str, photos: Path = CAT) -> tuple[int, dict[str, list[float]]]:
    """Return the exit code and the table: status -> count, rate, median, p99, max."""
    command = [sys.executable, "-m", "scripts.load_test", url, photos, "--seconds", "2", *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
    rows = [line.split() for line in done.stdout.splitlines()[1:]]
    return done.returncode, {name: [float(figure) for figure in figures] for name, *figures in rows}


def test_load_below_and_above_capacity(tmp_path: Path) -> None:
    with running(LOG_LEVEL="error", MAX_QUEUE="1024", REQUEST_TIMEOUT_S="3600") as service:
        service.wait()
        options = ["--rate", "20", "--times", str(tmp_path / "times")]
        code, table = load_test(f"http://127.0.0.1:{service.port}", *options)
        assert code == 0
        assert set(table) == {"/health", "200"}
        count, _, median, p99, most = table["200"]
        assert 0 < median <= p99 <= most
        times_ms = sorted(map(float, (tmp_path / "times").read_text().split()))
        assert len(times_ms) == count
        assert abs(times_ms[-1] - most) < 0.1
    gate = tmp_path / "gate"  # opens after the service has rejected a request
    with blocked(gate, LOG_LEVEL="error", MAX_QUEUE="1") as service, ThreadPoolExecutor() as beside:
        run = beside.submit(load_test, f"http://127.0.0.1:{service.port}", "--rate", "100")
        until(lambda: '{reason="queue_full"} 0.0' not in service.metrics())
        gate.touch()
        code, table = run.result()
        assert code == 0
        assert set(table) == {"/health", "200", "503"}  # an overload breaks no connection


def test_load_takes_photos_of_every_suffix_from_folders(tmp_path: Path) -> None:
    (tmp_path / "photos" / "cat").mkdir(parents=True)
    (tmp_path / "photos" / "cat" / "photo.JFIF").write_bytes(b"a photo")
    (tmp_path / "photos" / "cat" / "notes.txt").write_bytes(b"not a photo")
    with endpoint(lambda _: Reply()) as (url, seen):
        code, table = load_test(url, "--rate", "20", photos=tmp_path / "photos")
    assert code == 0
    assert set(table) == {"200", "/health"}
    assert {sent.body for sent in seen if sent.path == "/predict"} == {b"a photo"}


def test_load_on_a_server_that_breaks() -> None:
    class Broken(Handler):
        def do_GET(self) -> None:
            self.send_response(500)
            self.end_headers()

        def do_POST(self) -> None:
            self.close_connection = True

    with Server(Broken) as server:
        code, table = load_test(server.url, "--rate", "20")
    assert code == 1
    assert table["error"][0] > 0


def soak(*options: str) -> tuple[int, str]:
    command = [sys.executable, "-m", "scripts.soak", *options]
    narrow = os.environ | {"MAX_CONCURRENCY": "1", "MAX_QUEUE": "16"}  # or many CPUs would refuse nothing
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, env=narrow)
    assert not done.stderr
    return done.returncode, done.stdout


def test_soak() -> None:
    code, output = soak("--seconds", "15", "--growth", "30")  # too short for the memory to level off
    assert code == 0, output
    answers = {name: int(count) for count, name in re.findall(r"^ *(\d+) (\D.*)$", output, re.MULTILINE)}
    expected = {
        "/predict 200",
        "/predict 413",
        "/predict 422",
        "/predict 503",
        "/health 200",
        "/metrics 200",
        "hung up",
    }
    assert expected | {"/feedback 204"} <= set(answers)
    assert "memory: " in output


def test_soak_reports_growth_and_wrong_answers() -> None:
    kept: list[bytes] = []
    files: list[int] = []

    class Leaking(Handler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            kept.append(b"\1" * (8 << 20))  # much, compared with the process of the tests
            files.append(os.dup(0))
            self.answer(500 if self.path == "/health" else 200)

        def do_POST(self) -> None:
            self.close_connection = True

    try:
        with Server(Leaking) as server:
            options = ["--url", server.url, "--pid", str(os.getpid())]
            code, output = soak("--seconds", "6", "--growth", "1", *options)
    finally:
        for file in files:
            os.close(file)
    assert code == 1
    for reason in ("/health: status 500", "valid: ", "the memory grew by", "file descriptors are left open"):
        assert reason in output


def test_soak_without_a_service() -> None:
    with running(LOG_LEVEL="error") as service:
        service.wait()
        options = ["--url", f"http://127.0.0.1:{service.port}", "--pid", str(service.process.pid)]
        with ThreadPoolExecutor() as beside:
            run = beside.submit(soak, "--seconds", "10", *options)
            predicted = r'http_requests_total\{method="POST",route="/predict",status="200"\} [1-9]'
            until(lambda: re.search(predicted, service.metrics()))
            service.process.kill()
            code, output = run.result()
    assert code == 1
    assert "has gone" in output
    assert "health" in output or "probes: " in output


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seconds", "nan"], "argument --seconds: expected a number from 0.1"),
        (["--seconds", "-3"], "argument --seconds: expected a number from 0.1"),
        (["--rate", "inf"], "argument --rate: expected a number from 0.1"),
        (["--times", "missing/times.txt"], "--times: missing/times.txt: No such file"),
        (["--times", "."], "--times: .: Is a directory"),
    ],
)
def test_a_load_that_would_measure_nothing_or_be_lost_is_rejected(options: list[str], message: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "scripts.load_test", "http://127.0.0.1:9/", CAT, *options],
        capture_output=True, text=True, timeout=HANG_S, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode == 2
    assert message in done.stderr


@pytest.mark.parametrize("script", ["load_test", "traffic", "soak"])
def test_a_host_that_is_not_valid_is_one_line(script: str) -> None:
    url = "http://a%zz/"
    arguments = ["--url", url, "--seconds", "1"] if script == "soak" else [url, str(CAT)]
    done = subprocess.run(
        [sys.executable, "-m", f"scripts.{script}", *arguments],
        capture_output=True, text=True, timeout=HANG_S, cwd=ROOT,
    )  # fmt: skip
    assert done.returncode != 0
    assert "the host of the URL is not valid" in done.stderr
    assert "Traceback" not in done.stderr


def test_threads_that_only_the_warm_up_had_count_as_growth() -> None:
    samples = [Usage(90.0, 8, 40)] * 12 + [Usage(90.0, 8, 20)] * 48
    before = Usage(80.0, 8, 10)
    assert growth(samples, before, Usage(90.0, 8, 35), 5) == ["the number of threads grew"]
    assert growth(samples, before, Usage(90.0, 8, 20), 5) == []
