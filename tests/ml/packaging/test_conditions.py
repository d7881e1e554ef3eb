"""Conditions: which models are good enough, and what too few photos cannot show."""

import dataclasses

import numpy as np
import pytest

from ml.data.dataset import Dataset
from ml.evaluation import baselines
from ml.evaluation.baselines import Probe
from ml.evaluation.metrics import Floats
from ml.evaluation.ood import measure_scores
from ml.packaging.conditions import (
    check_accuracy,
    check_probabilities,
    check_unknown,
    minimum_accuracy,
    score_of,
)
from ml.params import Params


def data_of(*counts: int, test: int = 2) -> Dataset:
    """Photos without pixels: that many of each class, one in `test` of them in the test split."""
    labels = np.repeat(np.arange(len(counts)), counts)
    rows = np.arange(len(labels))
    return Dataset(
        tuple(f"class {number}" for number in range(len(counts))), 8, "center_crop",
        np.zeros((len(labels), 8, 8, 3), np.uint8), labels, np.where(rows % test == 0, "test", "train"),
        [f"{row}.png" for row in rows], [f"{row:064x}" for row in rows], np.full((len(labels), 2), 8),
    )  # fmt: skip


def answers(labels, wrong=(), classes=None, sure=0.9) -> Floats:
    """Probabilities of a model that takes each of the `wrong` photos for the next class."""
    classes = classes or labels.max() + 1
    answered = labels.copy()
    answered[list(wrong)] = (answered[list(wrong)] + 1) % classes
    rest = (1 - sure) / (classes - 1)
    return np.where(np.arange(classes) == answered[:, None], sure, rest)


@pytest.fixture
def check(params, tmp_path, monkeypatch):
    """Check a model that is wrong on some test photos, against a probe that is wrong on others."""
    monkeypatch.setattr(baselines, "_FILE", tmp_path / "probe.npz")

    def check(data, wrong=(), probe_wrong=None, crossed=None, **package):
        plain = params.model_dump()
        plain["package"] |= {"min_accuracy": None} | package
        labels, classes = data.labels[data.rows("test")], len(data.classes)
        Probe.remove()
        if probe_wrong is not None:
            truth = data.labels if crossed is not None else data.labels[:0]
            crossed_answers = answers(truth, crossed or (), classes)
            Probe(answers(labels, probe_wrong), crossed_answers, truth).write()
        conditions = check_accuracy(Params.model_validate(plain), data, answers(labels, wrong))
        return {condition.name.split(" ")[0]: condition for condition in conditions}

    return check


def unmet(conditions):
    return [name for name, condition in conditions.items() if not condition.met]


def test_only_a_clear_loss_against_the_probe_counts(check):
    data = data_of(200, 200)
    assert not unmet(check(data, range(20), range(20)))
    assert not unmet(check(data, range(24), range(20)))  # by chance
    worse = check(data, range(40), range(20))
    assert unmet(worse) == ["not"]
    assert "only the probe on 20" in worse["not"].detail
    assert not unmet(check(data, range(80), None))  # no pretrained body, no probe


def test_a_model_must_be_shown_to_be_better_than_one_constant_answer(check):
    data = data_of(200, 200)
    guess = check(data, range(0, 200, 2))
    assert unmet(guess) == ["better"]
    assert guess["better"].name == "better than always answering class 0"
    assert not unmet(check(data, range(80)))
    few = check(data_of(2, 4), [0, 1])  # three test photos, even all right, show nothing
    assert not unmet(few)
    assert "too few photos" in few["better"].detail


def test_imbalanced_classes_weigh_the_same(check):
    data = data_of(1000, 60)
    assert score_of(data) == "balanced_accuracy"
    assert score_of(data_of(100, 90)) == "accuracy"
    always_the_first = range(500, 530)  # 94 % accuracy
    assert unmet(check(data, always_the_first)) == ["better"]
    floor = check(data, range(500, 510), min_accuracy=0.9)
    assert unmet(floor) == ["balanced"]
    assert "balanced accuracy 0.8333 (0.7438 to 0.9038) on 530 test photos" in floor["balanced"].detail
    # The model gives up ten of the few for twelve of the many.
    against = check(data, range(500, 510), range(12))
    assert unmet(against) == ["not"]
    assert "all classes weigh the same" in against["not"].detail


def test_too_few_test_photos_are_replaced_by_cross_validation(check):
    data = data_of(20, 20, test=10)
    assert not unmet(check(data, [0], [], crossed=range(3)))
    guess = check(data, [], [], crossed=range(18))
    assert unmet(guess) == ["better"]
    assert "of a linear probe, cross-validated on 40 photos" in guess["better"].detail
    # The photos exclude 0.97 only if the whole interval is below it.
    assert not unmet(check(data, [], [], crossed=range(2), min_accuracy=0.97))
    assert unmet(check(data, [], [], crossed=range(8), min_accuracy=0.97)) == ["accuracy"]


def test_the_minimum_accuracy(check, params):
    data = data_of(200, 200)
    low = check(data, range(30), min_accuracy=0.9)
    assert unmet(low) == ["accuracy"]
    assert low["accuracy"].remedy == "package.min_accuracy=0.85"
    assert not unmet(check(data, range(30), min_accuracy=0.85))
    assert "accuracy" not in check(data, range(30), min_accuracy=0)
    named = {"floors": [{"classes": ["class 1", "class 0"], "accuracy": 0.9}]}
    assert unmet(check(data, range(30), **named)) == ["accuracy"]
    assert not unmet(check(data, range(30), **named, min_accuracy=0))
    assert not unmet(check(data_of(200, 200, 200), range(30), **named))


def test_the_default_classes_keep_their_minimum(params):
    package = params.package.model_copy(update={"min_accuracy": None})
    pets = dataclasses.replace(data_of(200, 200), classes=("dog", "cat"))
    assert minimum_accuracy(package, pets) == 0.97
    others = dataclasses.replace(data_of(200, 200, 200), classes=("bird", "cat", "dog"))
    assert minimum_accuracy(package, others) == 0
    few = dataclasses.replace(data_of(10, 10), classes=("cat", "dog"))
    assert minimum_accuracy(package, few) == 0  # nobody set it for a few photos
    assert minimum_accuracy(package.model_copy(update={"min_accuracy": 0.8}), few) == 0.8


def test_probabilities_that_mislead(params):
    sure = answers(np.arange(1000) % 10, sure=0.95)
    assert check_probabilities(params, sure, 0.05).met
    assert not check_probabilities(params, sure, 0.16).met
    few = answers(np.arange(5) % 5, sure=0.5)
    assert check_probabilities(params, few, 0.4).met  # of five photos that say 50 %, one may well be right


def test_a_model_that_rejects_the_photos_of_its_classes(params):
    def check(*scores):
        (condition,) = check_unknown(params, ("cat", "dog"), measure_scores(0.95, np.array(scores)))
        return condition

    assert check(*[0.9] * 98, 0.1, 0.1).met
    assert check(*[0.9] * 70, *[0.1] * 30).met  # may be chance
    broken = check(*[np.nan] * 60)
    assert not broken.met
    assert broken.name == "at most 25% of the test photos answered as unknown"
    assert broken.detail == "the share is 1.0000 (0.9398 to 1.0000)"
    assert check(0.1, 0.9).met  # two photos show nothing
    wanted = params.evaluate.model_copy(update={"ood_rejected": 0.4})
    known = measure_scores(0.95, np.array([0.9] * 60 + [0.1] * 40))
    patient = params.model_copy(update={"evaluate": wanted})
    assert [condition.met for condition in check_unknown(patient, ("cat", "dog"), known)] == [True]
    assert not check_unknown(params, ("cat", "unknown"), known)  # every photo gets an answer


def test_every_condition_can_be_written(check):
    for condition in check(data_of(200, 200), range(40), range(20), min_accuracy=0.9).values():
        assert isinstance(dataclasses.asdict(condition)["met"], bool)
        assert "\n" not in condition.detail
