"""The benchmark tells the truth, or says why it can't."""

import os
import subprocess
import sys
from pathlib import Path

from tests.app.service import ROOT
from tests.conftest import needs
from tests.waiting import HANG_S

pytestmark = needs("wrk")


def bench(photos: Path, **env: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, ROOT / "scripts" / "bench.py", photos]
    options = ["--connections", "1,4", "--seconds", "1", "--rounds", "1"]
    return subprocess.run(
        [*command, *options], capture_output=True, text=True, timeout=HANG_S, env=os.environ | env
    )


def test_a_row_for_each_number_of_connections():
    done = bench(ROOT / "tests" / "photos" / "cat.jpg")
    assert done.returncode == 0, done.stderr
    _, *rows, memory = done.stdout.splitlines()
    figures = [row.replace("%", "").split() for row in rows]
    assert [row[0] for row in figures] == ["1", "4"]
    for _, rate, share, bare, median, p99 in figures:
        assert min(float(rate), float(bare)) > 0  # which is more, a second on a busy machine doesn't tell
        low, high = (100 * (float(rate) + sign) / (float(bare) - sign) for sign in (-0.05, 0.05))
        assert low - 0.5 <= float(share) <= high + 0.5  # all three are rounded
        assert 0 < float(median) <= float(p99)
    assert "MB idle" in memory


def test_what_is_refused_is_no_throughput():
    done = bench(ROOT / "tests" / "photos" / "cat.jpg", API_KEYS="nobody-sends-it")
    assert done.returncode == 1
    assert done.stdout == ""
    assert done.stderr.startswith("error: ")
    assert "Non-2xx" in done.stderr


def test_what_is_no_photo_is_named(tmp_path):
    (tmp_path / "small.jpg").write_bytes(b"\xff\xd8\xff and no more")
    done = bench(tmp_path)
    assert done.returncode == 2
    assert "can't be used" in done.stderr


def test_without_wrk():
    done = bench(ROOT / "tests" / "photos" / "cat.jpg", PATH="")
    assert done.returncode == 2
    assert "wrk is not installed" in done.stderr
