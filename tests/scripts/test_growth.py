"""The growth table has a row per number of photos, and the generated copies are dropped."""

import re
import subprocess
import sys

from tests.helpers.paths import ROOT


def growth(*arguments):
    command = [sys.executable, "-m", "scripts.growth", *arguments]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


def test_one_row_per_number_of_photos(tmp_path):
    done = growth("--photos", "1000,2000", "--folder", str(tmp_path))
    assert done.returncode == 0, done.stderr
    _, *rows = done.stdout.splitlines()
    assert [int(row.split()[0]) for row in rows] == [1000, 2000]
    for row, thousands in zip(rows, (1, 2), strict=True):
        assert f"broken {2 * thousands}, duplicate {10 * thousands}" in row
        assert 0 < int(re.search(r"near_duplicate (\d+)", row)[1]) < 20 * thousands  # those across splits
        assert all(float(figure) > 0 for figure in row.split()[1:6])
    assert list(tmp_path.iterdir()) == []


def test_wrong_numbers_of_photos():
    for photos in ("many", "1500", "0", ""):
        done = growth("--photos", photos)
        assert done.returncode == 2
        assert "multiples of 1000" in done.stderr


def test_a_failed_run_is_reported(tmp_path):
    done = growth("--photos", "1000", "--folder", str(tmp_path / "none"))
    assert done.returncode == 1
    assert "No such file" in done.stderr
