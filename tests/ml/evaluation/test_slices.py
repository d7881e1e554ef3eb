"""Accuracy of the slices of the test split."""

import numpy as np
import pytest

from ml.data.dataset import Dataset
from ml.evaluation.metrics import wilson
from ml.evaluation.slices import FEWER, slice_metrics, words_of


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("cat/oxford_Abyssinian_12.jpg", "Abyssinian"),
        ("cat/Abyssinian_12.jpg", "Abyssinian"),
        ("dog/american_pit_bull_terrier_10.jpg", "american pit bull terrier"),
        ("dog/pug_7-2.jpg", "pug"),
        ("cat/kaggle_cat_100.jpg", ""),
        ("dog/dog_3.jpg", ""),
        ("dog/Dog_3.jpg", ""),
        ("dog/IMG_1234.jpg", ""),
        ("dog/12.jpg", ""),
        ("dog/pug.jpg", ""),
        ("dog/2024_pug_1.jpg", ""),
    ],
)
def test_the_file_name_gives_the_words(path, words):
    assert words_of(path, ("cat", "dog")) == words


def data_of(names, sizes, levels):
    count = len(names)
    images = np.ones((count, 32, 32, 3), np.uint8) * np.array(levels, np.uint8)[:, None, None, None]
    return Dataset(
        ("cat", "dog"), 32, "center_crop", images, np.zeros(count, np.int64), np.full(count, "test"),
        [f"cat/{name}.jpg" for name in names], ["0" * 64] * count, np.array(sizes, np.int64),
    )  # fmt: skip


def test_each_slice_has_its_accuracy_and_interval():
    names = (
        [f"pug_{n}" for n in range(30)]
        + [f"beagle_{n}" for n in range(15)]
        + [f"boxer_{n}" for n in range(9)]
    )
    names += [f"{n}" for n in range(10)]
    sizes = [(300, 224)] * 25 + [(225, 400)] * 39
    levels = [51] * 20 + [52] * 44  # 0.2, and a little more
    probabilities = np.repeat([[0.75, 0.25]], 64, axis=0)
    probabilities[[0, 31]] = 0.05, 0.95  # all photos show cats
    found = slice_metrics(data_of(names, sizes, levels), probabilities, 0.9)
    assert list(found) == ["collection", "file_name", "short_side_pixels", "brightness"]
    assert list(found["file_name"]) == ["pug", FEWER]
    interval = wilson(29, 30, 0.9)
    assert found["file_name"]["pug"] == {
        "photos": 30,
        "accuracy": 29 / 30,
        "accuracy_low": interval.low,
        "accuracy_high": interval.high,
        "confidence": pytest.approx((29 * 0.75 + 0.95) / 30),
    }
    assert found["file_name"][FEWER]["photos"] == 24
    assert found["file_name"][FEWER]["accuracy"] == 23 / 24
    assert {name: one["photos"] for name, one in found["short_side_pixels"].items()} == {
        "over 112 to 224": 25,
        "over 224 to 448": 39,
    }
    assert {name: one["photos"] for name, one in found["brightness"].items()} == {
        "over 0.1 to 0.2": 20,
        "over 0.2 to 0.3": 44,
    }


def sure(count):
    return np.repeat([[0.9, 0.1]], count, axis=0)


def test_the_file_name_gives_the_collection():
    names = (
        [f"kaggle_cat_{n}" for n in range(25)] + [f"oxford_Bengal_{n}" for n in range(20)] + ["pug_1"] * 20
    )
    found = slice_metrics(data_of(names, [(300, 300)] * 65, [9] * 65), sure(65), 0.95)
    assert {name: one["photos"] for name, one in found["collection"].items()} == {"kaggle": 25, "oxford": 20}


def test_small_slices_are_left_out():
    found = slice_metrics(
        data_of([f"pug_{n}" for n in range(19)], [(9000, 9000)] * 19, [0] * 19), sure(19), 0.95
    )
    assert found == {"collection": {}, "file_name": {}, "short_side_pixels": {}, "brightness": {}}
    found = slice_metrics(
        data_of([f"pug_{n}" for n in range(20)], [(9000, 9000)] * 20, [255] * 20), sure(20), 0.95
    )
    assert found == {
        "collection": {},
        "file_name": {},
        "short_side_pixels": {},
        "brightness": {},
    }
