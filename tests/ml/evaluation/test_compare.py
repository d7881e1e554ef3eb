"""The comparison of two models on the same photos, against cases computed by hand and against chance."""

import numpy as np
import pytest

from ml.evaluation.compare import (
    BETTER,
    UNSURE,
    WORSE,
    compare,
    compare_hits,
    compare_losses,
    compare_recalls,
)

LABELS = np.arange(1000) % 2


def model(wrong=(), sure=0.9):
    """Probabilities of a model with one confidence that is wrong on some photos."""
    right = np.full(1000, sure)
    right[list(wrong)] = 1 - sure
    return np.where(LABELS[:, None] == np.arange(2), right[:, None], 1 - right[:, None])


def paired(candidate, baseline, confidence=0.95, min_change=0.02):
    return compare(candidate, baseline, LABELS, 500, confidence, min_change)


def test_mcnemar_of_a_case_by_hand():
    counts = compare_hits(np.array([1, 1, 1, 1, 0, 1, 0], bool), np.array([0, 0, 0, 0, 1, 1, 0], bool), 0.95)
    assert (counts.photos, counts.candidate, counts.baseline) == (7, 4, 1)
    assert counts.p_value == pytest.approx(2 * (5 + 1) / 32)  # at least 4 of 5, either way
    assert counts.verdict == UNSURE


def test_classes_weigh_the_same():
    labels = np.repeat([0, 1], [180, 20])
    first, second = np.ones(200, bool), np.ones(200, bool)
    first[:12] = False  # wrong on 12 of many
    second[180:190] = False  # wrong on half of the few
    counts = compare_recalls(first, second, labels, 0.95)
    assert (counts.photos, counts.candidate, counts.baseline, counts.verdict) == (200, 10, 12, BETTER)
    assert compare_hits(first, second, 0.95).verdict == UNSURE
    assert compare_recalls(second, first, labels, 0.95).verdict == WORSE
    only_two = np.ones(200, bool)
    only_two[180:182] = False  # a tenth of the few, but two photos show nothing
    assert compare_recalls(np.ones(200, bool), only_two, labels, 0.95).verdict == UNSURE
    assert compare_recalls(first, first, labels, 0.95).p_value == 1


def test_a_model_that_gives_up_rare_classes_is_worse_only_if_all_classes_weigh_the_same():
    labels = np.repeat([0, 1], [360, 40])

    def model(wrong_common, wrong_rare):
        right = np.full(400, 0.9)
        right[:wrong_common] = right[360 : 360 + wrong_rare] = 0.1
        return np.where(labels[:, None] == np.arange(2), right[:, None], 1 - right[:, None])

    careless, careful = model(0, 25), model(60, 5)
    plain, balanced = (
        compare(careless, careful, labels, 500, 0.95, 0.02, balanced=each) for each in (False, True)
    )
    assert plain.verdicts == {BETTER}
    assert balanced.verdicts == {WORSE}
    assert str(balanced.accuracy).count("all classes weigh the same") == 1
    assert str(balanced.log_loss).endswith("all classes weigh the same")
    # Mean log loss of each class, half and half: 25 of 40 instead of 5 of 40, and 0 instead of 60 of 360.
    assert balanced.log_loss.value == pytest.approx((20 / 40 - 60 / 360) / 2 * np.log(9))


def test_with_equal_classes_it_is_mcnemars_test():
    random = np.random.default_rng(0)
    first, second = random.random(1000) < 0.9, random.random(1000) < 0.87
    by_photo, by_class = (
        compare_hits(first, second, 0.95),
        compare_recalls(first, second, LABELS, 0.95),
    )
    assert by_class.p_value == pytest.approx(by_photo.p_value, abs=0.01)


def test_only_photos_on_which_exactly_one_model_is_right_count():
    # Both are wrong on a hundred photos; the intervals of 90.0 and 89.0 % would overlap.
    shared = range(100)
    result = paired(model([*shared]), model([*shared, *range(200, 210)]))
    assert (result.accuracy.candidate, result.accuracy.baseline) == (10, 0)
    assert result.accuracy.p_value == pytest.approx(2 / 2**10)
    assert result.accuracy.verdict == BETTER
    other_way = paired(model([*shared, *range(200, 210)]), model([*shared]))
    assert other_way.accuracy.verdict == other_way.log_loss.verdict == WORSE
    assert paired(model(range(200, 210)), model(range(300, 315))).accuracy.verdict == UNSURE


def test_a_model_is_neither_better_nor_worse_than_itself():
    result = paired(model(range(50)), model(range(50)))
    assert result.verdicts == {UNSURE}
    assert result.accuracy.p_value == 1
    assert (result.log_loss.value, result.log_loss.low, result.log_loss.high) == (0, 0, 0)
    perfect = np.eye(2)[LABELS]
    assert compare(perfect, perfect, LABELS, 50, 0.95, 0.02).verdicts == {UNSURE}


def test_log_loss_is_compared_photo_by_photo():
    result = paired(model(range(20), 0.95), model(range(20), 0.9))
    expected = 0.98 * np.log(0.9 / 0.95) + 0.02 * np.log(0.1 / 0.05)
    assert result.log_loss.value == pytest.approx(expected)
    assert result.log_loss.share == pytest.approx(expected / (-0.98 * np.log(0.9) - 0.02 * np.log(0.1)))
    assert result.log_loss.low < expected < result.log_loss.high < 0
    assert result.verdicts == {UNSURE, BETTER}


def test_a_significant_but_tiny_difference_counts_as_none():
    losses = np.full(1000, 0.1)
    assert compare_losses(losses * 0.99, losses, 100, 0.95, 0.02).verdict == UNSURE
    assert compare_losses(losses * 0.97, losses, 100, 0.95, 0.02).verdict == BETTER
    assert compare_losses(losses * 1.03, losses, 100, 0.95, 0.02).verdict == WORSE


def test_the_confidence_bounds_how_often_equal_models_are_result_to_differ():
    random = np.random.default_rng(0)
    tries = 400
    different = 0
    for _ in range(tries):
        losses = random.exponential(0.1, (2, 200))
        different += compare_losses(losses[0], losses[1], 200, 0.9, 0.0).verdict != UNSURE
    assert 0.06 < different / tries < 0.15
