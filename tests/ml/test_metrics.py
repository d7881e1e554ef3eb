"""Figures against cases worked out by hand."""

import numpy as np
import pytest

from ml import metrics

LABELS = np.array([0, 0, 1, 1])
SURE = np.array([[0.9, 0.1], [0.6, 0.4], [0.2, 0.8], [0.7, 0.3]])


def test_figures_of_a_small_case():
    found = metrics.figures(SURE, LABELS, ("cat", "dog"), bins=10, resamples=200, confidence=0.95)
    assert found["accuracy"] == 0.75
    assert found["accuracy_low"] == pytest.approx(0.3006, abs=1e-3)  # Wilson, 3 of 4
    assert found["log_loss"] == pytest.approx(-np.log([0.9, 0.6, 0.8, 0.3]).mean())
    assert found["log_loss_low"] < found["log_loss"] < found["log_loss_high"]
    assert found["roc_auc"] == 0.75
    assert found["recall_dog"] == 0.5
    assert found["precision_cat"] == pytest.approx(2 / 3)


def test_figures_without_photos_of_a_class():
    found = metrics.figures(SURE[:2], LABELS[:2], ("cat", "dog"), bins=10, resamples=50, confidence=0.95)
    assert found["accuracy"] == found["recall_cat"] == 1
    assert not {"roc_auc", "recall_dog"} & set(found)


def test_calibration_error_of_a_known_gap():
    probabilities = np.full((100, 2), [0.9, 0.1])
    labels = np.array([0] * 60 + [1] * 40)
    assert metrics.expected_calibration_error(probabilities, labels, 15) == pytest.approx(0.3)


def test_temperature_undoes_overconfidence():
    random = np.random.default_rng(0)
    logits = random.normal(0, 2, (4000, 3))
    chances = metrics.softmax(logits)
    labels = np.array([random.choice(3, p=row) for row in chances])
    assert metrics.fit_temperature(logits * 2.5, labels) == pytest.approx(2.5, rel=0.1)


def test_softmax_of_huge_logits():
    assert metrics.softmax(np.array([[1e4, 0.0]])).tolist() == [[1.0, 0.0]]


def test_temperature_without_a_mistake_to_learn_from_is_not_certainty():
    logits = np.array([[4.0, 0.0], [0.0, 4.0]] * 50)
    labels = np.array([0, 1] * 50)
    temperature = metrics.fit_temperature(logits, labels)
    # 51 of 52 is what the smoothed targets ask for
    assert metrics.softmax(logits, temperature).max() == pytest.approx(51 / 52, abs=1e-3)
