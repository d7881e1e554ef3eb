"""A full disk ends a command with one line, and leaves nothing half-written."""

import contextlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
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
    """A context in which a disk of a given size is mounted on a folder."""

    @contextlib.contextmanager
    def mount(folder: Path, size: str) -> Iterator[None]:
        folder.mkdir(parents=True, exist_ok=True)
        done = subprocess.run(
            ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", folder], capture_output=True, check=False
        )
        if done.returncode:
            pytest.skip("may not mount a small disk here")
        try:
            yield
        finally:
            subprocess.run(["umount", folder], check=True)

    if sys.platform != "linux" or os.geteuid():
        pytest.skip("only root can mount a small disk, on Linux")
    return mount


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
    with small_disk(folder, "3m"):  # the pixels have 5.7 MB
        done = subprocess.run(
            [sys.executable, "-m", "ml", "prepare"],
            cwd=project, env=os.environ | {"PYTHONPATH": str(ROOT)},
            capture_output=True, text=True, check=False,
        )  # fmt: skip
        assert done.returncode == 1, done.stderr
        (line,) = done.stderr.splitlines()
        assert line.startswith("error: data/processed: ")
        assert "free some space" in line
        assert not list(folder.iterdir())


@pytest.mark.filterwarnings("ignore")
def test_training_evaluation_and_packaging(make_photos, params, run_ml, small_disk, tmp_path):
    """Each runs out of space once, and succeeds when it is run again with more."""
    (tmp_path / "data").mkdir()
    make_photos(folder="data/raw")
    plain = json.loads(params.model_dump_json())
    plain["recipes"]["simple_cnn"]["epochs"] = 1
    plain["package"]["min_accuracy"] = 0
    with (tmp_path / "params.yaml").open("w") as file:
        YAML().dump(plain, file)
    assert run_ml("prepare", folder=tmp_path).returncode == 0
    for command, folder, before in (
        ("train", "models", []),
        ("evaluate", "reports/evaluate", []),
        ("package", "models", ["checkpoint.pt", "history.json"]),
    ):
        kept = tmp_path / "kept"
        (tmp_path / folder).mkdir(parents=True, exist_ok=True)
        (tmp_path / folder).rename(kept)
        size = sum(file.stat().st_size for file in kept.rglob("*")) + 40_000
        with small_disk(tmp_path / folder, f"{size >> 10}k"):
            shutil.copytree(kept, tmp_path / folder, dirs_exist_ok=True)
            done = run_ml(command, folder=tmp_path)
            left = sorted(file.name for file in (tmp_path / folder).iterdir())
        assert done.returncode == 1, command
        line = done.stderr.splitlines()[-1]
        assert line.startswith("error: the disk is full, at "), line
        assert left == before or command == "evaluate"
        (tmp_path / folder).rmdir()
        kept.rename(tmp_path / folder)
        done = run_ml(command, folder=tmp_path)
        assert done.returncode == 0, done.stderr


def test_a_command_says_that_the_disk_is_full(project, small_disk):
    with small_disk(project / "reports", "16k"):
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
    with small_disk(tmp_path / "disk", "1m"):
        path = tmp_path / "disk/model.pt"
        path.write_bytes(b"old")
        with pytest.raises(OSError, match="No space left") as full, replaced(path) as file:
            file.write(bytes(2 << 20))
        assert full.value.filename == str(path)  # which disk it is
        assert path.read_bytes() == b"old"
        with replaced(path) as file:
            file.write(b"new")
        assert path.read_bytes() == b"new"
        assert list(path.parent.iterdir()) == [path]
