"""Metrics against cases computed by hand."""

import numpy as np
import pytest

from ml.evaluation import metrics
from ml.reporting.stage_reports import classes_of

LABELS = np.array([0, 0, 1, 1])
SURE = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])


def test_metrics_of_a_small_case():
    found = metrics.classification_metrics(
        SURE, LABELS, ("cat", "dog"), bins=10, resamples=200, confidence=0.95
    )
    assert found["accuracy"] == 0.75
    assert found["accuracy_low"] == pytest.approx(0.3006, abs=1e-3)  # Wilson, 3 of 4
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.6, 0.8, 0.3]).mean())
    assert found["log_loss_low"] < found["log_loss"] < found["log_loss_high"]
    assert found["roc_auc"] == 0.75
    assert found["recall_dog"] == 0.5
    assert found["precision_cat"] == pytest.approx(2 / 3)


def test_every_metric_has_its_interval():
    found = metrics.classification_metrics(
        SURE, LABELS, ("cat", "dog"), bins=10, resamples=200, confidence=0.95
    )
    names = [name for name in found if name != "photos" and not name.endswith(("_low", "_high"))]
    assert names == ["accuracy", "balanced_accuracy", "log_loss", "roc_auc", "ece", "precision_cat",
                     "recall_cat", "precision_dog", "recall_dog"]  # fmt: skip
    for name in names:
        assert found[f"{name}_low"] <= found[name] <= found[f"{name}_high"], name
    never_answered = metrics.classification_metrics(
        np.array([[0.9, 0.1]] * 4), LABELS, ("cat", "dog"), 10, 50, 0.95
    )
    assert [never_answered[f"precision_dog{end}"] for end in ("", "_low", "_high")] == [0, 0, 1]


def test_balanced_accuracy_is_as_unsure_as_its_smallest_class():
    even = metrics.balanced_accuracy(np.array([90, 60]), np.array([100, 100]), 0.95)
    assert even.value == pytest.approx(0.75)
    assert (even.low, even.high) == pytest.approx((0.69, 0.80), abs=0.01)  # as of 150 of 200 photos
    rare = metrics.balanced_accuracy(np.array([594, 2, 0]), np.array([594, 2, 0]), 0.95)
    assert (rare.value, rare.high) == (1, 1)
    assert rare.low == pytest.approx(1 - metrics.wilson(2, 2, 0.95).low / 0.342 * 0.329, abs=0.01)
    never = metrics.balanced_accuracy(np.array([594, 0]), np.array([594, 20]), 0.95)
    assert never.value == 0.5  # though 97 % of the answers are right


def test_area_under_the_curve_with_ties_and_its_interval():
    from sklearn.metrics import roc_auc_score

    random = np.random.default_rng(0)
    positive = random.random(400) < 0.3
    scores = np.round(positive * 0.6 + random.normal(0, 0.5, 400), 1)
    found = metrics.auroc(scores, positive, 0.95)
    assert found.value == pytest.approx(roc_auc_score(positive, scores))
    # DeLong's standard error by its definition, pair by pair
    pairs = scores[positive][:, None] - scores[~positive][None]
    wins = (pairs > 0) + 0.5 * (pairs == 0)
    error = np.sqrt(wins.mean(1).var(ddof=1) / positive.sum() + wins.mean(0).var(ddof=1) / (~positive).sum())
    assert found.high - found.value == pytest.approx(1.959964 * error)
    three = metrics.softmax(random.normal(0, 1, (300, 3)) + np.eye(3)[np.arange(300) % 3])
    mean = metrics.roc_auc(three, np.arange(300) % 3, 0.95)
    assert mean.value == pytest.approx(roc_auc_score(np.arange(300) % 3, three, multi_class="ovr"))
    assert 0.02 < mean.high - mean.low < 0.12


def test_intervals_contain_the_truth_as_often_as_they_state():
    """Over many samples, the stated share of the intervals contains the truth."""
    random, hits = np.random.default_rng(0), 0
    for _ in range(300):
        positive = np.arange(200) % 2 == 0
        scores = random.normal(0, 1, 200) + positive
        found = metrics.auroc(scores, positive, 0.9)
        hits += found.low <= 0.7602 <= found.high  # the normal distribution's at 1 / sqrt(2)
    assert 0.85 < hits / 300 < 0.95


def test_the_interval_of_a_share_stays_within_0_and_1():
    for right, low, high in ((0, 0, 0.29), (9, 0.71, 1)):
        found = metrics.wilson(right, 9, 0.95)
        assert (found.low, found.high) == pytest.approx((low, high), abs=0.02)
        assert 0 <= found.low <= found.high <= 1


def test_the_bootstrap_of_many_photos_works_in_batches():
    values = np.random.default_rng(3).exponential(1, 300_000)
    found = metrics.bootstrap_mean(values, 40, 0.95)  # two batches
    assert found.high - found.low == pytest.approx(2 * 1.96 * values.std() / np.sqrt(300_000), rel=0.4)
    assert found == metrics.bootstrap_mean(values, 40, 0.95)


def test_metrics_without_photos_of_a_class():
    found = metrics.classification_metrics(
        SURE[:2], LABELS[:2], ("cat", "dog"), bins=10, resamples=50, confidence=0.95
    )
    assert found["accuracy"] == found["recall_cat"] == 1
    assert not {"roc_auc", "recall_dog"} & set(found)


def test_calibration_error_of_a_known_gap():
    probabilities = np.full((100, 2), [0.9, 0.1])
    labels = np.array([0] * 60 + [1] * 40)
    found = metrics.bootstrap_calibration_error(probabilities, labels, 15, 10, 0.95)
    assert found.value == pytest.approx(0.3)


def test_the_interval_of_the_calibration_error_contains_the_error():
    sure = np.repeat([0.6, 0.7, 0.8, 0.9], 1000)
    right = np.concatenate([np.arange(1000) < 1000 * share for share in (0.6, 0.7, 0.8, 0.9)])
    found = metrics.bootstrap_calibration_error(
        np.stack([sure, 1 - sure], 1), np.where(right, 0, 1), 10, 200, 0.95
    )
    assert found.value == pytest.approx(0, abs=1e-9)
    assert found.low == found.value < 0.005 < found.high < 0.03


def test_the_temperature_corrects_overconfidence():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (4000, 3))
    chances = metrics.softmax(logits)
    labels = np.array([random.choice(3, p=row) for row in chances])
    assert metrics.fit_temperature(logits * 2.5, labels) == pytest.approx(2.5, rel=0.1)


def test_softmax_of_huge_logits():
    assert metrics.softmax(np.array([[1e4, 0.0]])).tolist() == [[1.0, 0.0]]


def test_the_temperature_of_a_model_without_mistakes_leaves_it_uncertain():
    logits = np.array([[4.0, 0.0], [0.0, 4.0]] * 50)
    labels = np.array([0, 1] * 50)
    temperature = metrics.fit_temperature(logits, labels)
    assert metrics.softmax(logits, temperature).max() == pytest.approx(100.5 / 101, abs=1e-3)


def test_the_temperature_of_a_model_that_is_too_sure_and_makes_no_mistake():
    logits = np.array([[400.0, 0.0], [0.0, 400.0]] * 50)
    temperature = metrics.fit_temperature(logits, np.array([0, 1] * 50))
    assert temperature == pytest.approx(10, rel=0.01)  # the largest


@pytest.mark.parametrize("scale", [0.3, 1, 3])
@pytest.mark.parametrize(("classes", "photos"), [(2, 1000), (10, 100), (20, 200)])
def test_the_temperature_is_nearly_as_good_as_the_best_for_few_photos_of_many_classes(
    classes: int, photos: int, scale: float
) -> None:
    random = np.random.default_rng(1)

    def drawn(count: int) -> tuple[metrics.Floats, metrics.Labels]:
        labels = random.integers(0, classes, count)
        logits = random.normal(0, 1, (count, classes))
        logits[np.arange(count), labels] += 3.5
        return (
            logits * 3.5,
            labels,
        )  # calibrated: the log of the ratio of both densities, plus a constant

    def loss(temperature: float) -> float:
        return float(metrics.log_losses(metrics.softmax(logits * scale, temperature), labels).mean())

    fitting, fitting_labels = drawn(photos)
    logits, labels = drawn(5000)
    temperature = metrics.fit_temperature(fitting * scale, fitting_labels)
    probabilities = metrics.softmax(logits * scale, temperature)
    error = metrics.bootstrap_calibration_error(probabilities, labels, 15, 2, 0.95).value
    assert error < 0.03
    assert loss(temperature) < loss(scale) + 0.02


def test_the_temperature_of_a_single_photo():
    assert metrics.fit_temperature(np.array([[3.0, 1.0, 0.0]]), np.array([0])) == 1


def test_classes_whose_names_end_like_those_of_intervals() -> None:
    names = ("risk", "risk_high", "risk_low")
    probabilities = np.eye(3)[[0, 0, 1, 1, 2, 2]]
    labels = np.array([0, 0, 1, 0, 2, 1])
    found = metrics.classification_metrics(probabilities, labels, names, 10, 100, 0.95)
    assert [found[f"recall_{name}"] for name in names] == pytest.approx([2 / 3, 1 / 2, 1])
    assert classes_of(found) == list(names)
