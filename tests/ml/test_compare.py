"""Two models on the same photos, against cases worked out by hand and against chance."""

import numpy as np
import pytest

from ml.evaluation.compare import compare, count, differ
from ml.evaluation.verdicts import BETTER, UNSURE, WORSE

LABELS = np.arange(1000) % 2


def model(wrong=(), sure=0.9):
    """Probabilities of a model that is so sure, and wrong on those photos."""
    right = np.full(1000, sure)
    right[list(wrong)] = 1 - sure
    return np.where(LABELS[:, None] == np.arange(2), right[:, None], 1 - right[:, None])


def paired(candidate, holder, confidence=0.95, min_change=0.02):
    return compare(candidate, holder, LABELS, 500, confidence, min_change)


def test_mcnemar_of_a_case_by_hand():
    alone = count(np.array([1, 1, 1, 1, 0, 1, 0], bool), np.array([0, 0, 0, 0, 1, 1, 0], bool), 0.95)
    assert (alone.photos, alone.candidate, alone.holder) == (7, 4, 1)
    assert alone.p_value == pytest.approx(2 * (5 + 1) / 32)  # at least 4 of 5, either way
    assert alone.verdict == UNSURE


def test_it_is_the_photos_on_which_one_alone_is_right_that_count():
    # Both are wrong on hundred photos; intervals of 90.0 and 89.0 % would say nothing.
    shared = range(100)
    found = paired(model([*shared]), model([*shared, *range(200, 210)]))
    assert (found.accuracy.candidate, found.accuracy.holder) == (10, 0)
    assert found.accuracy.p_value == pytest.approx(2 / 2**10)
    assert found.accuracy.verdict == BETTER
    other_way = paired(model([*shared, *range(200, 210)]), model([*shared]))
    assert other_way.accuracy.verdict == other_way.log_loss.verdict == WORSE
    assert paired(model(range(200, 210)), model(range(300, 315))).accuracy.verdict == UNSURE


def test_a_model_is_neither_better_nor_worse_than_itself():
    found = paired(model(range(50)), model(range(50)))
    assert found.verdicts == {UNSURE}
    assert found.accuracy.p_value == 1
    assert (found.log_loss.value, found.log_loss.low, found.log_loss.high) == (0, 0, 0)
    perfect = np.eye(2)[LABELS]
    assert compare(perfect, perfect, LABELS, 50, 0.95, 0.02).verdicts == {UNSURE}


def test_log_loss_is_compared_photo_by_photo():
    found = paired(model(range(20), 0.95), model(range(20), 0.9))
    expected = 0.98 * np.log(0.9 / 0.95) + 0.02 * np.log(0.1 / 0.05)
    assert found.log_loss.value == pytest.approx(expected)
    assert found.log_loss.share == pytest.approx(expected / (-0.98 * np.log(0.9) - 0.02 * np.log(0.1)))
    assert found.log_loss.low < expected < found.log_loss.high < 0
    assert found.verdicts == {UNSURE, BETTER}


def test_a_difference_that_is_sure_but_tiny_counts_as_none():
    losses = np.full(1000, 0.1)
    assert differ(losses * 0.99, losses, 100, 0.95, 0.02).verdict == UNSURE
    assert differ(losses * 0.97, losses, 100, 0.95, 0.02).verdict == BETTER
    assert differ(losses * 1.03, losses, 100, 0.95, 0.02).verdict == WORSE


def test_so_many_of_equal_models_are_told_apart_as_the_confidence_allows():
    random = np.random.default_rng(0)
    tries = 400
    told = 0
    for _ in range(tries):
        losses = random.exponential(0.1, (2, 200))
        told += differ(losses[0], losses[1], 200, 0.9, 0.0).verdict != UNSURE
    assert 0.06 < told / tries < 0.15
