"""The benchmark prints consistent figures, or says why it cannot measure."""

import os
import subprocess
import sys
from pathlib import Path

from tests.conftest import needs
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S

pytestmark = needs("wrk")


def bench(photos: Path, seconds: int = 1, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "scripts.bench", photos]
    options = ["--connections", "1,4", "--seconds", str(seconds), "--rounds", "1"]
    done = subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=HANG_S, env=os.environ | env
    )
    if "no figures" in done.stderr and seconds == 1:  # a very busy machine gave no answer in that time
        return bench(photos, 20, **env)
    return done


def test_one_row_per_number_of_connections():
    done = bench(ROOT / "tests" / "photos" / "cat.jpg")
    assert done.returncode == 0, done.stderr
    _, _, *rows, memory = done.stdout.splitlines()
    figures = [list(map(float, row.split())) for row in rows]
    assert [row[0] for row in figures] == [1, 4]
    for _, rate, bare, share, cpu_ms, bare_cpu_ms, cost, median, p99 in figures:
        assert min(rate, bare, cpu_ms, bare_cpu_ms) > 0  # which one is larger depends on the machine
        for first, second, ratio, step in ((rate, bare, share, 0.05), (cpu_ms, bare_cpu_ms, cost, 0.005)):
            low, high = ((first + sign * step) / (second - sign * step) for sign in (-1, 1))
            assert low - 0.005 <= ratio <= high + 0.005  # all three figures are rounded
        assert 0 < median <= p99
    assert "MB idle" in memory


def test_rejected_requests_are_no_throughput():
    done = bench(ROOT / "tests" / "photos" / "cat.jpg", API_KEYS="nobody-sends-it")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Non-2xx" in done.stderr


def test_a_file_that_is_not_a_photo_is_reported(tmp_path):
    (tmp_path / "small.jfif").write_bytes(b"\xff\xd8\xff and no more")  # any photo's suffix is read
    done = bench(tmp_path)
    assert done.returncode == 2
    assert "photo cannot be used" in done.stderr


def test_without_wrk():
    done = bench(ROOT / "tests" / "photos" / "cat.jpg", PATH="")
    assert done.returncode == 2
    assert "wrk is not installed" in done.stderr
