"""The benchmark of `ml predict` and `ml score` prints consistent figures, or says why it cannot measure."""

import subprocess
import sys

import pytest

from tests.helpers.paths import ROOT


def bench(*arguments):
    command = [sys.executable, "-m", "scripts.bench_predict", *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, cwd=ROOT)


@pytest.mark.parametrize("command", ["predict", "score"])
def test_the_ratio_is_that_of_the_rates(command):
    photos = [ROOT / "tests/photos/cat.jpg", ROOT / "tests/photos/dog.jpg"]
    done = bench(*photos, "--rounds", 1, "--command", command)
    assert done.returncode == 0, done.stderr
    photos, command, bare, ratio = map(float, done.stdout.splitlines()[-1].split())
    assert photos == 2
    assert min(command, bare) > 0
    half = 0.05  # the rates are rounded to tenths, the ratio to hundredths
    assert (command - half) / (bare + half) - 0.006 < ratio < (command + half) / (bare - half) + 0.006


def test_a_file_that_is_not_a_photo_is_reported(tmp_path):
    (tmp_path / "note.jpg").write_text("text")
    done = bench(tmp_path)
    assert done.returncode == 2
    assert "photo cannot be used" in done.stderr
