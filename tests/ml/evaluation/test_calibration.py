"""Warnings of probabilities that are far off and of temperatures that make them worse; none by accident."""

import numpy as np
import pytest

from ml.evaluation.calibration import check_calibration, error_by_chance
from ml.evaluation.metrics import softmax


def answers(photos, classes=10, temperature=1.0, seed=0):
    """Logits [photos, classes] and the classes that photos have with these probabilities at a temperature."""
    random = np.random.default_rng(seed)
    logits = random.normal(0, 3, (photos, classes))
    shares = softmax(logits, temperature).cumsum(1)
    return logits, (random.random((photos, 1)) > shares).sum(1).clip(max=classes - 1)


@pytest.mark.parametrize("photos", [3, 20, 100, 2000])
def test_good_probabilities_give_no_warning(params, photos):
    quiet = 0
    for seed in range(20):
        logits, labels = answers(photos, seed=seed)
        good = softmax(logits)
        quiet += not check_calibration(params.evaluate, good, good, labels).warnings()
    assert quiet >= 19  # one in 100 is louder by chance


def test_a_temperature_that_hides_what_the_network_knows_is_reported(params):
    logits, labels = answers(150)
    unsure = softmax(logits, 8.0)  # right answers that say 19 %
    calibration = check_calibration(params.evaluate, unsure, softmax(logits), labels)
    assert calibration.ece > 0.4
    assert calibration.worse_than_none
    far_off, worse = calibration.warnings()
    assert "the calibration error is 0." in far_off
    assert "worse" in worse
    assert f"{calibration.log_loss:.4f}" in worse


def test_overconfidence_is_reported_even_without_a_temperature(params):
    logits, labels = answers(300, temperature=4.0)
    sure = softmax(logits)
    calibration = check_calibration(params.evaluate, sure, sure, labels)
    assert not calibration.worse_than_none
    assert len(calibration.warnings()) == 1


def test_a_few_photos_cannot_show_that_a_temperature_is_worse(params):
    logits, labels = np.array([[5.0, 0], [6.0, 0], [0, 7.0]]), np.array([0, 0, 1])
    calibration = check_calibration(params.evaluate, softmax(logits, 9.0), softmax(logits), labels)
    assert calibration.log_loss > calibration.log_loss_uncalibrated
    assert not calibration.worse_than_none


def test_chance_explains_less_of_the_error_with_more_photos(params):
    few, more, many = (
        error_by_chance(params.evaluate, softmax(answers(photos)[0])) for photos in (10, 100, 10000)
    )
    assert few > 0.2 > more > 0.05 > many
