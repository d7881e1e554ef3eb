"""Which differences between the ONNX model and torch count."""

import numpy as np
import pytest

from ml.packaging.quantize import _remedies
from ml.params import Params


def answers(labels, wrong, sure=0.9):
    """Probabilities [N, 2] of a model that is wrong on the first photos."""
    answered = np.where(np.arange(len(labels)) < wrong, 1 - labels, labels)
    return np.where(np.arange(2) == answered[:, None], sure, 1 - sure)


@pytest.fixture
def remedies(params):
    """What to change so that the answers would be close enough."""
    plain = params.model_dump()
    plain["package"] |= {"max_accuracy_drop": 0.002, "max_mean_difference": 0.01}
    changed = Params.model_validate(plain)

    def compared(probabilities, expected, labels):
        difference = float(np.abs(probabilities - expected).max(1).mean())
        return _remedies(changed, probabilities, expected, labels, difference)

    return compared


@pytest.fixture
def close(remedies):
    return lambda *arguments: not remedies(*arguments)


def shifted(probabilities, by):
    """The same answers, each less sure by that much."""
    return np.where(probabilities > 0.5, probabilities - by, probabilities + by)


@pytest.mark.parametrize("photos", [3, 67, 68, 99, 400])
def test_one_photo_is_no_loss(close, photos):
    labels = np.arange(photos) % 2
    expected = answers(labels, 0, sure=0.501)
    assert close(answers(labels, 1, sure=0.501), expected, labels)
    assert not close(answers(labels, 2, sure=0.501), expected, labels)


def test_a_thousand_photos_may_lose_two(close):
    labels = np.arange(1000) % 2
    expected = answers(labels, 0, sure=0.501)
    assert close(answers(labels, 2, sure=0.501), expected, labels)
    assert not close(answers(labels, 3, sure=0.501), expected, labels)


def test_a_loss_of_exactly_the_limit_is_no_reason(params):
    labels = np.arange(100) % 2
    plain = params.model_dump()
    plain["package"] |= {"max_accuracy_drop": 0.29, "max_mean_difference": 1.0}
    for lost, reasons in ((29, []), (30, ["package.max_accuracy_drop=0.3"])):
        found = _remedies(
            Params.model_validate(plain), answers(labels, lost), answers(labels, 0), labels, 0.5
        )
        assert found == reasons


def test_probabilities_of_a_model_with_many_errors_may_move_more(close):
    labels = np.arange(200) % 2
    good, weak = answers(labels, 2), answers(labels, 30)
    assert close(shifted(good, 0.009), good, labels)
    assert not close(shifted(good, 0.02), good, labels)
    assert close(shifted(weak, 0.02), weak, labels)
    assert not close(shifted(weak, 0.06), weak, labels)  # up to 0.0375, as 15 % are wrong
    surer = shifted(weak, -0.035)  # on 15 % of the photos wrongly so
    assert not close(surer, weak, labels)


def test_only_the_limits_that_are_exceeded_are_to_be_raised(remedies):
    labels = np.arange(400) % 2
    expected = answers(labels, 0, sure=0.501)
    assert remedies(answers(labels, 3, sure=0.501), expected, labels) == ["package.max_accuracy_drop=0.008"]
    sure = answers(labels, 0)
    assert remedies(shifted(sure, 0.0205), sure, labels) == ["package.max_mean_difference=0.021"]
    both = remedies(answers(labels, 30), sure, labels)
    assert both == ["package.max_accuracy_drop=0.075", "package.max_mean_difference=0.06"]
