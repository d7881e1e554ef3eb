"""Perturbations do what their names say; labels that flip are counted, and checked against the limits."""

import argparse
import dataclasses
import hashlib
import io
import json
import shutil

import numpy as np
import pytest
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from ml.data.dataset import Dataset
from ml.model.errors import PipelineError
from ml.model.image import ImageError, read
from ml.model.onnx_model import OnnxModel
from ml.packaging import stability
from ml.packaging.perturbations import COLOUR_PERTURBATIONS, PERTURBATIONS, decode_whole
from ml.params import MaxFlips, Params
from scripts.common.pictures import encoded
from tests.conftest import colour_graph, coloured, encode

SIDE = 64
PHOTO = Image.fromarray(coloured((150, 110, 70), 200, 150, seed=3))


def perturbed(name, photo=PHOTO, number=0):
    """Pixels of a whole photo after the perturbation."""
    with Image.open(io.BytesIO(PERTURBATIONS[name](photo, number))) as image:
        return np.asarray(image.convert("RGB")).astype(int)


def test_every_perturbation_has_a_limit_and_every_limit_a_perturbation(params):
    assert list(PERTURBATIONS) == list(MaxFlips.model_fields)
    assert set(COLOUR_PERTURBATIONS) < set(PERTURBATIONS)
    assert max(params.stability.max_flips.model_dump().values()) < 0.1


def test_each_perturbation_does_what_its_name_says():
    photo = np.asarray(PHOTO).astype(int)
    assert np.array_equal(perturbed("mirrored"), photo[:, ::-1])
    assert perturbed("brighter").mean() > 1.2 * photo.mean()
    assert perturbed("darker").mean() == pytest.approx(0.5 * photo.mean(), rel=0.02)
    assert np.ptp(perturbed("grey"), axis=2).max() == 0
    assert perturbed("half_size").shape == (75, 100, 3)
    assert perturbed("side_96").shape == (96, 128, 3)
    assert perturbed("side_96", PHOTO.resize((80, 60))).shape == (60, 80, 3)
    assert perturbed("half_size", PHOTO.resize((1, 1))).shape == (1, 1, 3)
    noise = {name: abs(perturbed(name) - photo).mean() for name in ("jpeg_30", "jpeg_60", "jpeg_95")}
    assert 0 < noise["jpeg_95"] < noise["jpeg_60"] < noise["jpeg_30"] < 5
    assert len(PERTURBATIONS["jpeg_30"](PHOTO, 0)) < len(PERTURBATIONS["jpeg_95"](PHOTO, 0))
    touched = (abs(perturbed("watermarked") - photo) > 8).any(2)
    assert 0.02 < touched.mean() < 0.3
    corners = touched[:75, :100], touched[75:, :100], touched[:75, 100:], touched[75:, 100:]
    assert min(corner.mean() for corner in corners) > 0.01


def test_turned_photos_are_rotated_by_ten_degrees():
    line = Image.new("RGB", (201, 201), "white")
    line.paste("red", (100, 0, 101, 201))
    for name, side in (("turned_left", -1), ("turned_right", 1)):
        found = perturbed(name, line)
        reds = np.flatnonzero((found[10, :, 0] > 128) & (found[10, :, 1] < 200))
        assert reds.mean() - 100 == pytest.approx(side * 90 * np.tan(np.radians(10)), abs=2)


def test_the_exif_orientation_restores_the_photo():
    photo = np.asarray(PHOTO).astype(int)
    orientations = set()
    for number in range(7):
        data = PERTURBATIONS["exif"](PHOTO, number)
        with Image.open(io.BytesIO(data)) as image:
            orientations.add(image.getexif()[0x0112])
            stored = np.asarray(image).astype(int)
        assert stored.shape != photo.shape or abs(stored - photo).mean() > 10
        upright = read(data, 150).pixels.astype(int)
        assert abs(upright - read(encode(np.asarray(PHOTO), "PNG"), 150).pixels).mean() < 3
    assert orientations == set(range(2, 9))


def test_whole_photos_are_upright_opaque_and_not_too_large():
    large = Image.fromarray(coloured((90, 90, 90), 1600, 1200))
    for form, options in (("JPEG", {}), ("PNG", {}), ("WEBP", {})):
        photo = decode_whole(encode(np.asarray(large), form, **options), SIDE)
        assert photo.mode == "RGB"
        assert min(photo.size) == 4 * SIDE
        assert photo.size[0] / photo.size[1] == pytest.approx(4 / 3, abs=0.01)
    tagged = Image.Exif()
    tagged[0x0112] = 6
    assert decode_whole(encoded(PHOTO, exif=tagged), SIDE).size == (150, 200)
    transparent = encoded(Image.new("RGBA", (30, 20), (0, 0, 0, 0)), "PNG")
    assert np.asarray(decode_whole(transparent, SIDE)).min() == 255
    for long in ((70_000, 300), (1, 70_000)):  # a JPEG has fewer pixels on a side
        wide = decode_whole(encoded(Image.new("RGB", long), "PNG"), SIDE)
        assert max(wide.size) <= 65_500
        for perturbation in PERTURBATIONS.values():
            perturbation(wide, 0)
    for bad in (b"", b"hello", encode(np.asarray(PHOTO))[:500]):
        with pytest.raises(ImageError):
            decode_whole(bad, SIDE)


def pattern_model(pattern):
    """An ONNX model that answers the second class for photos that correlate with a pattern [H, W, 3]."""
    weights = {
        "shape": np.array([0, -1], np.int64),
        "pattern": np.stack([np.zeros(pattern.size), pattern.ravel()], 1).astype(np.float32),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Reshape", ["float", "shape"], ["flat"]),
        helper.make_node("MatMul", ["flat", "pattern"], ["logits"]),
        helper.make_node("Softmax", ["logits"], ["probabilities"], axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "pattern",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIDE, SIDE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 2])],
        [numpy_helper.from_array(value, name) for name, value in weights.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return OnnxModel(model.SerializeToString())


class NeedsLight:
    """A model whose OOD score is high for photos with a mean over a level."""

    def __init__(self, model, level=100):
        self.model, self.level = model, level

    def run(self, images):
        return self.model.run(images) | {"known": np.where(images.mean((1, 2, 3)) > self.level, 0.9, 0.1)}


LEFT_OR_RIGHT = np.zeros((SIDE, SIDE, 3))
LEFT_OR_RIGHT[:, : SIDE // 2], LEFT_OR_RIGHT[:, SIDE // 2 :] = -0.001, 0.001
RED_OR_GREEN = np.zeros((SIDE, SIDE, 3))
RED_OR_GREEN[..., 0], RED_OR_GREEN[..., 1] = -0.001, 0.001


def data_of(tmp_path, pictures, labels):
    """Prepared photos, of which every fifth is in the test split, and their files."""
    shutil.rmtree(tmp_path / "raw", ignore_errors=True)
    (tmp_path / "raw" / "x").mkdir(parents=True)
    files = [encode(picture, "PNG") for picture in pictures]
    paths = [f"x/{number}.png" for number in range(len(files))]
    for path, file in zip(paths, files, strict=True):
        (tmp_path / "raw" / path).write_bytes(file)
    return Dataset(
        ("a", "b"), SIDE, "center_crop", np.stack([read(file, SIDE).pixels for file in files]),
        np.array(labels, np.int64), np.array(["test" if n % 5 == 0 else "train" for n in range(len(files))]),
        paths, [hashlib.sha256(file).hexdigest() for file in files], np.full((len(files), 2), 80),
    )  # fmt: skip


@pytest.fixture
def sided(tmp_path):
    """Photos that are brighter on one side, which is their class."""
    pictures, labels = [], []
    for number in range(200):
        photo = coloured((120, 120, 120), 90, 80, seed=number).astype(int) // 2 + 40
        photo[:, slice(45, None) if number % 2 else slice(0, 45)] += 60
        pictures.append(photo.astype(np.uint8))
        labels.append(number % 2)
    return data_of(tmp_path, pictures, labels)


@pytest.fixture
def measure(params, tmp_path):
    """Measure a model that looks for the brighter side, with changes of the section `stability`."""

    def measure(data, model=None, **changes):
        plain = params.model_dump()
        plain["stability"] |= changes
        model = model or pattern_model(LEFT_OR_RIGHT)
        return stability.measure_stability(Params.model_validate(plain), model, data, tmp_path / "raw")

    return measure


def test_labels_that_flip_are_counted_and_the_limits_checked(sided, measure, params, tmp_path):
    result = measure(sided)
    assert result.photos == 40
    mirrored = result.perturbations["mirrored"]
    assert (mirrored.flips, mirrored.share, mirrored.over) == (40, 1.0, True)
    assert mirrored.low < 1 == mirrored.high
    assert mirrored.limit == params.stability.max_flips.mirrored
    other_flips = {name: one.flips for name, one in result.perturbations.items() if name != "mirrored"}
    assert set(other_flips.values()) == {0}
    assert all(one.refused is None for one in result.perturbations.values())
    (unmet,) = (condition for condition in result.conditions() if not condition.met)
    assert unmet.detail == "mirrored flips 100.0% of the labels (limit 2.0%)"
    assert unmet.remedy == "stability.max_flips.mirrored=1"
    result.write(tmp_path / "stability.json")
    assert json.loads((tmp_path / "stability.json").read_text())["changes"]["mirrored"]["flips"] == 40
    assert "over its limit" in result.table()


def test_the_parameters_hold_the_limits(sided, measure, params):
    result = measure(sided, photos=10, max_flips=params.stability.max_flips.model_dump() | {"mirrored": 1})
    assert (result.photos, result.perturbations["mirrored"].flips) == (10, 10)
    assert all(condition.met for condition in result.conditions())


def test_limits_grow_with_the_error_rate(sided, measure, params):
    wrong = sided.labels.copy()
    wrong[sided.rows("test")[:4]] = 1 - wrong[sided.rows("test")[:4]]  # a tenth of 40
    result = measure(dataclasses.replace(sided, labels=wrong))
    limits = params.stability.max_flips.model_dump()
    for name, flips in result.perturbations.items():
        assert flips.limit == pytest.approx(10 * limits[name])  # an error rate of 10 % instead of 1 %
    assert result.perturbations["mirrored"].over
    assert measure(dataclasses.replace(sided, labels=1 - sided.labels)).perturbations["mirrored"].limit == 0.5


def test_few_photos_have_no_limits(sided, measure):
    result = measure(sided, min_photos=41)
    assert result.perturbations["mirrored"].flips == result.photos == 40
    assert {one.limit for one in result.perturbations.values()} == {None}
    assert result.conditions() == []


@pytest.mark.parametrize(
    ("flips", "photos", "limit", "over"),
    [
        (1, 12, 0.01, False),
        (2, 12, 0.01, True),
        (6, 300, 0.02, False),
        (7, 300, 0.02, True),
        (29, 100, 0.29, False),
        (123, 150, 0.82, False),
        (9, 9, None, False),
    ],
)
def test_one_photo_may_always_flip(flips, photos, limit, over):
    assert stability._judge(flips, photos, limit, None, 0.95).over is over


@pytest.mark.parametrize("amount", [0, 60])
def test_if_colour_separates_the_classes_its_perturbations_have_no_limit(measure, tmp_path, amount):
    """The model sees the upper half; the lower half equals out the mean colour, up to `amount`."""
    random, pictures = np.random.default_rng(0), []
    for number in range(150):
        photo = coloured((120, 120, 90), 80, 80, seed=number).astype(int) // 2 + 40
        channel = number % 2
        photo[:40, :, channel] += 60
        photo[40:, :, 1 - channel] += 60 - amount
        photo += random.integers(-9, 9, 3)
        pictures.append(photo.astype(np.uint8))
    data = data_of(tmp_path, pictures, np.arange(150) % 2)
    pattern = RED_OR_GREEN.copy()
    pattern[SIDE // 2 :] = 0
    result = measure(data, pattern_model(pattern))
    assert result.perturbations["grey"].flips > 5
    assert (result.perturbations["grey"].limit is None) == (amount > 0)
    assert result.perturbations["grey"].over == (amount == 0)
    assert result.perturbations["mirrored"].limit is not None


def test_colour_is_judged_by_photos_of_every_class(tmp_path, monkeypatch):
    colours = [(120, 120, 90)] * 39 + [(200, 60, 60)]
    pictures = [coloured(colour, 80, 80, seed=number) for number, colour in enumerate(colours)]
    monkeypatch.setattr(stability, "_COLOUR_PHOTOS", 2)
    data = data_of(tmp_path, pictures, np.arange(40) == 39)
    assert stability._colour_separates_classes(data)


def test_photos_that_become_unknown_are_counted(sided, measure):
    result = measure(sided, NeedsLight(pattern_model(LEFT_OR_RIGHT)))
    assert result.perturbations["darker"].refused == 1
    assert result.perturbations["brighter"].refused == result.perturbations["jpeg_95"].refused == 0
    never = measure(sided, NeedsLight(pattern_model(LEFT_OR_RIGHT), 255))
    assert {one.refused for one in never.perturbations.values()} == {0}  # they were unknown before


@pytest.mark.parametrize(
    ("onnx", "message"),
    [(b"no graph", "does not run"), (colour_graph(SIDE, outputs=3), "one probability per class")],
)
def test_a_model_that_cannot_be_used_has_a_clear_error(sided, make_model, monkeypatch, onnx, message):
    model = make_model(graph=onnx, classes=sided.classes, image_size=SIDE, resize=sided.resize)
    monkeypatch.setattr(Dataset, "load", lambda folder: sided)
    given = argparse.Namespace(model=model, data=None, raw=None)
    with pytest.raises(PipelineError, match=f"cannot be used: .*{message}"):
        stability.main(given)


def test_photos_must_not_have_changed_since_they_were_prepared(sided, measure, tmp_path):
    row = sided.rows("test")[0]
    path = tmp_path / "raw" / sided.paths[row]
    content = path.read_bytes()
    for change in (lambda: path.write_bytes(content + b"x"), path.unlink):
        change()
        with pytest.raises(PipelineError, match="run `dvc repro`"):
            measure(sided)
    unreadable = dataclasses.replace(
        sided, hashes=[hashlib.sha256(b"no photo").hexdigest()] * len(sided.hashes)
    )
    path.write_bytes(b"no photo")
    with pytest.raises(PipelineError, match="cannot be used"):
        measure(unreadable)
