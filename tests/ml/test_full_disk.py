"""A full disk ends a command with one line, and leaves nothing half-written."""

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from ruamel.yaml import YAML

from ml.model.files import replaced
from tests.helpers.paths import ROOT

PHOTOS = 40
FULL = """
from pathlib import Path
from ml import cli
from ml.data import ingest

ingest.main = lambda arguments: Path("report.json").write_bytes(bytes(100_000))
cli.run("ml", "", {"ingest": ("ml.data.ingest", "")}, ["ingest"])
"""


@pytest.fixture
def small_disk(tmp_path):
    """Mount a disk of a given size on a folder; yields the function that does it."""
    mounted = []

    def mount(folder: Path, size: str) -> None:
        folder.mkdir(parents=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("may not mount a small disk here")
        mounted.append(folder)

    if sys.platform != "linux" or os.geteuid():
        pytest.skip("only root can mount a small disk, on Linux")
    yield mount
    for folder in mounted:
        subprocess.run(["umount", folder], check=True)


@pytest.fixture
def project(params, tmp_path):
    for name in ("blue", "red"):
        (tmp_path / "data/raw" / name).mkdir(parents=True)
    random = np.random.default_rng(0)
    for number in range(PHOTOS):
        pixels = random.integers(0, 256, (32, 32, 3), np.uint8)
        Image.fromarray(pixels).save(tmp_path / "data/raw" / ("blue", "red")[number % 2] / f"{number}.png")
    plain = json.loads(params.model_dump_json())
    plain["prepare"]["image_size"] = 224
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(plain, file)
    return tmp_path


def test_prepare(project, small_disk):
    folder = project / "data/processed"
    small_disk(folder, "3m")  # the pixels have 5.7 MB
    done = subprocess.run(
        [sys.executable, "-m", "ml", "prepare"],
        cwd=project, env=os.environ | {"PYTHONPATH": str(ROOT)}, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1, done.stderr
    (line,) = done.stderr.splitlines()
    assert line.startswith("error: data/processed: ")
    assert "free some space" in line
    assert not list(folder.iterdir())


def test_a_command_says_that_the_disk_is_full(project, small_disk):
    small_disk(project / "reports", "16k")
    done = subprocess.run(
        [sys.executable, "-c", FULL], cwd=project / "reports", env=os.environ | {"PYTHONPATH": str(ROOT)},
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert (
        done.stderr
        == f"error: the disk is full, at {project / 'reports'}: free some space, and run it again\n"
    )


def test_a_file_is_replaced_as_a_whole_or_not_at_all(small_disk, tmp_path):
    small_disk(tmp_path / "disk", "1m")
    path = tmp_path / "disk/model.pt"
    path.write_bytes(b"old")
    with pytest.raises(OSError, match="No space left"), replaced(path) as file:
        file.write(bytes(2 << 20))
    assert path.read_bytes() == b"old"
    with replaced(path) as file:
        file.write(b"new")
    assert path.read_bytes() == b"new"
    assert list(path.parent.iterdir()) == [path]
