"""Example photos in a model.pt: written, read, and left out unless they are as they should be."""

import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch

from ml.model import bundle, checkpoint, examples
from ml.model.errors import BundleError
from ml.model.examples import MAX_BYTES, MAX_EXAMPLES, MAX_SIDE, Example
from ml.model.manifest import Manifest
from ml.model.networks import build
from tests.conftest import BLUE, RED, colour_graph, coloured, encode, manifest

PHOTOS = [encode(coloured(RED)), encode(coloured(BLUE)), encode(coloured(RED, seed=1))]
EXAMPLES = [Example("red", PHOTOS[0]), Example("blue", PHOTOS[1]), Example("red", PHOTOS[2])]


def write(path: Path, photos: list[Example]) -> None:
    described = Manifest.from_dict(manifest())
    bundle.write(path, described, build("simple_cnn", 2).state_dict(), colour_graph(), examples=photos)


def test_examples_are_stored_and_read(tmp_path: Path) -> None:
    path = tmp_path / "model.pt"
    write(path, EXAMPLES)
    assert list(bundle.read(path).examples) == EXAMPLES
    assert list(checkpoint.read(path).examples) == EXAMPLES
    assert torch.load(path, weights_only=True)["classes"] == ["red", "blue"]
    write(path, [])
    assert list(bundle.read(path).examples) == []
    assert not any("examples" in name for name in zipfile.ZipFile(path).namelist())


@pytest.mark.parametrize(
    "bad",
    [
        [Example("red", b"no photo")],
        [Example("red", encode(coloured(RED), "PNG"))],
        [Example("red", PHOTOS[0] + bytes(MAX_BYTES))],
        [Example("green", PHOTOS[0])],
        [Example("red", PHOTOS[0])] * (MAX_EXAMPLES + 1),
    ],
)
def test_unusable_examples_are_not_written(tmp_path: Path, bad: list[Example]) -> None:
    with pytest.raises(BundleError, match="example photo"):
        write(tmp_path / "model.pt", bad)
    assert not (tmp_path / "model.pt").exists()


@pytest.mark.parametrize(
    ("name", "photo"),
    [
        ("0.0", b"<svg xmlns='http://www.w3.org/2000/svg'/>"),
        ("0.0", encode(coloured(RED), "PNG")),
        ("0.0", PHOTOS[0][:200]),
        ("0.0", encode(coloured(RED)) + bytes(MAX_BYTES)),
        ("0.0", encode(np.zeros((8, MAX_SIDE + 1, 3), np.uint8))),
        (
            "0.0",
            encode(np.zeros((1, 1, 3), np.uint8)).replace(b"\x00\x01\x00\x01\x03", b"\xff\xff\xff\xff\x03"),
        ),
        ("2.0", PHOTOS[0]),
        ("9999.0", PHOTOS[0]),
        ("-1.0", PHOTOS[0]),
        ("../../0.0", PHOTOS[0]),
        ("00.0", PHOTOS[0]),
        ("red", PHOTOS[0]),
    ],
)
def test_an_unusable_example_is_left_out(make_model: Callable[..., Path], name: str, photo: bytes) -> None:
    path = make_model(examples={name: photo, "1.0": PHOTOS[1]})
    assert list(bundle.read(path).examples) == [EXAMPLES[1]]


def test_a_damaged_example_is_left_out(make_model: Callable[..., Path]) -> None:
    path = make_model(examples={"0.0": PHOTOS[0], "1.0": PHOTOS[1]})
    data = path.read_bytes()
    path.write_bytes(data.replace(PHOTOS[0], PHOTOS[0][:-20] + bytes(20)))
    assert list(bundle.read(path).examples) == [EXAMPLES[1]]


def test_their_number_is_bounded_and_every_class_has_its_turn(make_model: Callable[..., Path]) -> None:
    many = {f"{label}.{number}": PHOTOS[label] for label in (0, 1) for number in range(60)}
    read = bundle.read(make_model(examples=many)).examples
    assert len(read) == MAX_EXAMPLES
    assert [example.label for example in read[:4]] == ["red", "blue", "red", "blue"]
    assert examples.FOLDER == "extra/examples"
