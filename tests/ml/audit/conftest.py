"""A working folder with prepared photos, some of whose labels are wrong."""

import hashlib
import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image, ImageOps

from ml import set_params
from ml.audit.suspects import Suspect, Suspects
from ml.data import prepare
from ml.params import Params
from tests.conftest import coloured, encode
from tests.helpers.params import copy_params
from tests.helpers.paths import ROOT

PHOTOS = ROOT / "tests/photos"
WRONG = ("cat/wrong-0.png", "cat/wrong-1.png", "cat/wrong-2.png")
ODD = "dog/duck.jpg"
SAME = ("cat/same.png", "dog/same.png")
COUNT = 25


def cropped(name: str, seed: int) -> bytes:
    """A part of a photo, perhaps mirrored."""
    random = np.random.default_rng(seed)
    with Image.open(PHOTOS / f"{name}.jpg") as photo:
        side = int(min(photo.size) * random.uniform(0.6, 0.95))
        left, top = (random.integers(length - side) for length in photo.size)
        part = photo.crop((left, top, left + side, top + side)).resize((96, 96))
    return encode(np.asarray(ImageOps.mirror(part) if seed % 2 else part), "PNG")


def reprepare(params: Params, **changes: object) -> prepare.PrepareReport:
    """Run prepare in the present folder."""
    return prepare.run(params.prepare.model_copy(update={"image_size": 96} | changes))


@pytest.fixture
def prepared(params: Params, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A working folder: dogs among the cats, a photo of neither, and one in both classes."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("ml.audit.find.FOLDS", 3)  # each takes seconds
    raw = tmp_path / "data/raw"
    for name in ("cat", "dog"):
        (raw / name).mkdir(parents=True)
        for seed in range(COUNT):
            (raw / name / f"{seed}.png").write_bytes(cropped(name, seed))
    for number, path in enumerate(WRONG):
        (raw / path).write_bytes(cropped("dog", 1000 + number))
    shutil.copy(PHOTOS / "other/duck.jpg", raw / ODD)
    for path in SAME:
        (raw / path).write_bytes(cropped("dog", 2000))
    set_params.assign({"train.arch": "simple_cnn"}, copy_params(tmp_path))
    reprepare(params)
    return tmp_path


def write_suspects(folder: Path, classes: list[str], count: int) -> None:
    """Write photos to data/raw, and suspects of them as the audit does."""
    suspects = []
    for number in range(count):
        name = classes[number % len(classes)]
        path = folder / "data/raw" / name / f"{number}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(encode(coloured((40 * number % 256, 90, 120), 80, 60, seed=number)))
        likeliest = [classes[(number + 1) % len(classes)], name]
        rest = [each for each in classes if each not in likeliest]
        shares = dict(zip([*likeliest, *rest][:9], [0.9, 0.05, *[0.001] * 7], strict=False))
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        suspects.append(Suspect("label", [f"{name}/{number}.jpg"], [sha256], [name], shares))
    Suspects("", classes, 100, suspects).save(folder / "reports/audit/suspects.json")
