"""From a model's outputs to an answer."""

import numpy as np
import pytest

from ml.model.decision import bounded, can_be_unknown, decide_label, is_unknown
from ml.model.manifest import Manifest
from tests.conftest import manifest
from tests.helpers.graphs import KNOWN


def model(**changes: object) -> Manifest:
    return Manifest.from_dict(manifest(**changes))


@pytest.mark.parametrize("score", [float("nan"), float("inf"), -float("inf"), -1.0, 0.49])
def test_a_score_that_is_low_or_no_number_is_unknown(score):
    decision = decide_label(model(known=KNOWN), [0.9, 0.1], score)
    assert decision.label == "unknown"
    assert decision.likeliest == 0
    assert 0 <= decision.known < 0.5
    assert decide_label(model(known=KNOWN), [0.9, 0.1], score, allow_unknown=False).label == "red"
    assert decide_label(model(known=KNOWN, classes=["red", "unknown"]), [0.9, 0.1], score).label == "red"
    assert is_unknown([score, 0.5, 2.0]).tolist() == [True, False, False]


def test_without_a_threshold_or_a_score_the_label_is_a_class():
    assert decide_label(model(), [0.1, 0.9], 0.0).known is None
    assert decide_label(model(), [0.1, 0.9], 0.0).label == "blue"
    assert decide_label(model(known=KNOWN), [0.1, 0.9]).label == "blue"
    assert not can_be_unknown(model(), ["probabilities", "known"])
    assert can_be_unknown(model(known=KNOWN), ["probabilities", "known"])
    assert not can_be_unknown(model(known=KNOWN), ["probabilities"])


def test_probabilities_sum_to_one_whatever_rounding_does():
    random = np.random.default_rng(0)
    for count in (2, 3, 10, 100):
        classes = tuple(str(number) for number in range(count))
        for sharp in (1, 30):
            logits = random.normal(size=(50, count)) * sharp
            rows = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
            for row in rows.astype(np.float32).tolist():
                probabilities = decide_label(model(classes=list(classes)), row).probabilities
                assert sum(probabilities.values()) == pytest.approx(1, abs=1e-12)
                assert min(probabilities.values()) >= 0


def test_digits_of_an_answer():
    decision = decide_label(model(known=KNOWN), [0.12345678, 0.87654322], 0.7654321)
    assert decision.probabilities == {"red": 0.123457, "blue": 0.876543}
    assert decision.known == 0.765432
    assert bounded([0.1234567, 1.5]).tolist() == [0.123457, 1.0]
