"""The example photos of a model: which are chosen, and that they contain nothing but pixels."""

import dataclasses
import hashlib
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from ml.data.dataset import Dataset
from ml.model.errors import PipelineError
from ml.model.examples import MAX_BYTES, MAX_EXAMPLES, Example
from ml.model.manifest import Manifest
from ml.model.onnx_model import OnnxModel
from ml.packaging.examples import choose_test_photos, read_folder, wrong_answers
from tests.conftest import BLUE, RED, SIZE, colour_graph, coloured, encode, manifest

MODEL = OnnxModel(colour_graph())
MANIFEST = Manifest.from_dict(manifest())
PURPLE = (140, 70, 130)
"""A little more red than blue: the model is right, but not sure."""


def described(size: tuple[int, int] = (1600, 1200)) -> bytes:
    """A photo with everything that cameras and programs write beside the pixels."""
    exif = Image.Exif()
    exif[0x0112], exif[0x010F] = 6, "SECRET camera"
    exif.get_ifd(0x8825)[2] = (52.0, 31.0, 12.0)  # GPS latitude
    pixels = coloured(RED, *size)
    return encode(
        pixels, exif=exif, comment=b"SECRET comment", xmp=b"<x>SECRET</x>", icc_profile=b"SECRET profile"
    )


def test_an_example_is_small_upright_and_without_metadata(tmp_path: Path) -> None:
    (tmp_path / "red.jpg").write_bytes(described())
    ((example),) = read_folder(str(tmp_path), MANIFEST.classes)
    assert b"SECRET" in described()
    assert b"SECRET" not in example.photo
    with Image.open(io.BytesIO(example.photo)) as image:
        assert (image.format, image.size) == ("JPEG", (384, 512))
        assert dict(image.getexif()) == {}
        assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert wrong_answers([example], MANIFEST, MODEL) == []


def test_a_photo_of_noise_is_made_smaller_still(tmp_path: Path) -> None:
    noise = np.random.default_rng(1).integers(0, 256, (700, 700, 3), np.uint8)
    (tmp_path / "red.png").write_bytes(encode(noise, "PNG"))
    (example,) = read_folder(str(tmp_path), MANIFEST.classes)
    assert len(example.photo) <= MAX_BYTES


def test_a_folder_has_photos_by_folder_or_by_name(tmp_path: Path) -> None:
    (tmp_path / "blue").mkdir()
    for seed in range(9):
        (tmp_path / "blue" / f"{seed}.png").write_bytes(encode(coloured(BLUE, seed=seed), "PNG"))
    (tmp_path / "red.webp").write_bytes(encode(coloured(RED), "WEBP"))
    (tmp_path / "LICENCE.txt").write_text("CC0")
    labels = [example.label for example in read_folder(str(tmp_path), MANIFEST.classes)]
    assert labels == ["red", "blue", "blue", "blue"]
    classes = [f"class {number}" for number in range(40)]
    for name in classes:
        (tmp_path / "many" / name).mkdir(parents=True)
        (tmp_path / "many" / name / "1.png").write_bytes(encode(coloured(RED), "PNG"))
    assert len(read_folder(str(tmp_path / "many"), classes)) == MAX_EXAMPLES


def test_an_unusable_folder_is_refused(tmp_path: Path) -> None:
    for folder in (tmp_path, tmp_path / "missing"):
        with pytest.raises(PipelineError, match=r"^package\.examples: "):
            read_folder(str(folder), MANIFEST.classes)
    (tmp_path / "red.jpg").write_bytes(b"no photo")
    with pytest.raises(PipelineError, match=r"red\.jpg cannot be an example: not a JPEG"):
        read_folder(str(tmp_path), MANIFEST.classes)
    (tmp_path / "red.jpg").rename(tmp_path / "rad.jpg")
    with pytest.raises(PipelineError, match=r"rad\.jpg is of no class; .*: red, blue$"):
        read_folder(str(tmp_path), MANIFEST.classes)


@pytest.fixture
def data(tmp_path: Path) -> Dataset:
    """Test photos: of red a sure, an unsure and a wrong one, of blue an unsure one. The last isn't one."""
    photos = [(PURPLE, 0), (RED, 0), (BLUE, 0), (PURPLE[::-1], 1), (BLUE, 1)]
    files = [encode(coloured(colour, SIZE, SIZE, seed), "PNG") for seed, (colour, _) in enumerate(photos)]
    (tmp_path / "raw").mkdir()
    for number, file in enumerate(files):
        (tmp_path / "raw" / f"{number}.png").write_bytes(file)
    return Dataset(
        classes=("red", "blue"),
        image_size=SIZE,
        resize="center_crop",
        images=np.stack([np.asarray(Image.open(io.BytesIO(file))) for file in files]),
        labels=np.array([label for _, label in photos]),
        splits=np.array(["test"] * 4 + ["train"]),
        paths=[f"{number}.png" for number in range(len(files))],
        hashes=[hashlib.sha256(file).hexdigest() for file in files],
        sizes=np.full((len(files), 2), SIZE),
    )


def chosen(data: Dataset, raw: Path) -> list[Example]:
    probabilities = MODEL.run(data.images, data.rows("test"))["probabilities"]
    return choose_test_photos(data, MANIFEST, MODEL, probabilities, raw)


def test_test_photos_that_the_model_is_sure_about_are_chosen(data: Dataset, tmp_path: Path) -> None:
    (example,) = examples = chosen(data, tmp_path / "raw")
    assert examples == chosen(data, tmp_path / "raw")
    assert example.label == "red"
    with Image.open(io.BytesIO(example.photo)) as image:
        assert abs(np.asarray(image).mean((0, 1)) - data.images[1].mean((0, 1))).max() < 3
    (tmp_path / "raw" / "1.png").write_bytes(encode(coloured(RED), "PNG"))
    with pytest.raises(PipelineError, match="has changed since it was prepared"):
        chosen(data, tmp_path / "raw")


def test_a_photo_of_a_user_becomes_no_example(data: Dataset, tmp_path: Path) -> None:
    theirs = f"collected_2026-11-27_{'a' * 32}.jpg"
    (tmp_path / "raw" / "1.png").rename(tmp_path / "raw" / theirs)
    paths = [theirs if path == "1.png" else path for path in data.paths]
    assert chosen(dataclasses.replace(data, paths=paths), tmp_path / "raw") == []


def test_wrong_and_unsure_answers_are_named() -> None:
    pictures = [("red", RED), ("red", BLUE), ("red", PURPLE)]
    examples = [Example(label, encode(coloured(colour))) for label, colour in pictures]
    wrong = wrong_answers(examples, MANIFEST, MODEL, 0.9)
    assert wrong[0] == "the example photo of red is classified as blue"
    assert wrong[1].startswith("the example photo of red gets a probability of only 0.")
    assert len(wrong) == 2
    assert wrong_answers([], MANIFEST, MODEL) == []
