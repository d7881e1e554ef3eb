"""The linear probe on EfficientNet-Lite0's own ImageNet weights, and its cross-validation on small sets."""

import dataclasses

import numpy as np
import pytest

from ml.data.dataset import Dataset
from ml.evaluation import baselines
from ml.evaluation.baselines import Probe, answer_majority, has_few_test_photos
from ml.evaluation.probe import _evenly, fit_probe
from ml.params import Params
from tests.conftest import BLUE, RED, coloured

ARCH, SIDE = "efficientnet_lite0", 64


def data_of(pictures, labels, splits, classes=("blue", "red")):
    """Prepared photos as `Dataset.load` returns them."""
    count = len(pictures)
    return Dataset(
        classes, SIDE, "center_crop", np.stack(pictures), np.array(labels, np.int64), np.array(splits),
        [f"{classes[label]}/{number}.png" for number, label in enumerate(labels)],
        [f"{number:064x}" for number in range(count)], np.full((count, 2), SIDE),
    )  # fmt: skip


def two_colours(per_class=10):
    labels = [number % 2 for number in range(2 * per_class)]
    pictures = [coloured((BLUE, RED)[label], SIDE, SIDE, seed=number) for number, label in enumerate(labels)]
    splits = (["train"] * 8 + ["val", "test"]) * 2
    return data_of(pictures, labels, np.resize(splits, len(labels)).tolist())


@pytest.fixture
def without_near_duplicates(params):
    """Parameters with the check that the repository's own parameters have."""
    plain = params.model_dump()
    plain["prepare"]["near_duplicate_bits"] = 16
    return Params.model_validate(plain)


def test_a_small_set_is_cross_validated(params, tmp_path, monkeypatch):
    data = two_colours()
    probe = fit_probe(params, ARCH, data)
    rows = data.rows("test")
    assert probe.test.shape == (len(rows), 2)
    assert sorted(probe.crossed_labels) == sorted(data.labels)  # every photo once
    assert (probe.crossed.argmax(1) == probe.crossed_labels).mean() >= 0.9
    monkeypatch.setattr(baselines, "_FILE", tmp_path / "probe.npz")
    assert Probe.read() is None
    probe.write()
    again = Probe.read()
    assert np.array_equal(again.crossed, probe.crossed)
    assert np.array_equal(again.test, probe.test)


def test_labels_at_random_are_not_learned(params):
    data = two_colours(30)
    random = dataclasses.replace(data, labels=np.random.default_rng(3).permutation(data.labels))
    probe = fit_probe(params, ARCH, random)
    assert (probe.crossed.argmax(1) == probe.crossed_labels).mean() < 0.75


def test_near_duplicates_of_an_answered_photo_are_not_learned(params, without_near_duplicates):
    """Each photo is there twice, with one label by chance: only a copy could tell the label."""
    random = np.random.default_rng(0)
    pictures, labels = [], []
    for number in range(30):
        photo = coloured((120, 120, 120), SIDE, SIDE, seed=number)
        pictures += [photo, np.clip(photo.astype(int) + 3, 0, 255).astype(np.uint8)]
        labels += [int(random.random() < 0.5)] * 2
    data = data_of(pictures, labels, np.resize((["train"] * 8 + ["val", "test"]), 60).tolist())

    def accuracy(params):
        probe = fit_probe(params, ARCH, data)
        return (probe.crossed.argmax(1) == probe.crossed_labels).mean()

    assert accuracy(params) > 0.75
    assert accuracy(without_near_duplicates) < 0.7


def test_a_large_test_split_measures_enough(params):
    few = two_colours(20)
    assert has_few_test_photos(few)
    many = dataclasses.replace(
        two_colours(60), splits=np.array(["train", "test", "test", "test", "test", "val"] * 20)
    )
    many.splits[::12] = "test"
    assert len(many.rows("test")) < 100
    assert has_few_test_photos(many)
    splits = np.array(["test"] * 110 + ["train"] * 20 + ["val"] * 10)
    every = dataclasses.replace(two_colours(70), splits=splits)
    assert not has_few_test_photos(every)
    one_class = dataclasses.replace(every, labels=np.array([1, 1, 1, 1] + [0] * 106 + [0, 1] * 15))
    assert has_few_test_photos(one_class)
    assert len(fit_probe(params, ARCH, every).crossed) == 0


def test_without_a_pretrained_body_there_is_no_probe(params):
    data = two_colours()
    assert fit_probe(params, "simple_cnn", data) is None
    unequal = dataclasses.replace(data, labels=np.array([1] * 15 + [0] * 5))
    answers = answer_majority(unequal)
    assert set(answers.argmax(1)) == {1}
    assert answers.sum(1) == pytest.approx(1)


def test_classes_with_few_photos_keep_all_of_them(monkeypatch):
    monkeypatch.setattr("ml.evaluation.probe._MOST", 100)
    labels = np.repeat([0, 1, 2], [1000, 20, 300])
    rows = np.arange(1320)
    kept = _evenly(rows, labels, np.random.default_rng(0))
    assert np.bincount(labels[kept]).tolist() == [40, 20, 40]
    assert len(set(kept)) == 100
