"""The judge of canaries, against simulated traffic: every look of each canary counts."""

import numpy as np
import pytest

from deploy.canary.counts import Counts
from deploy.canary.judge import Finding, judge
from deploy.canary.rules import ALPHA, RULES
from deploy.canary.sequential import log_e_values, lower_bound
from tests.deploy.canary.traffic import Traffic, Version, simulate

CANARIES = 20
JUDGED = 14_000
"""Answers with feedback that each version needs so that a loss of 2 points is seen."""
MUCH = Traffic(photos=JUDGED / 36 / 0.1)  # 36: the sum of the candidate's shares


@pytest.fixture
def chance() -> np.random.Generator:
    return np.random.default_rng(22)


def harms(counts: dict[tuple[str, str], Counts]) -> set[str]:
    """The metrics that were found harmful at any look."""
    return {one.name for one in judge(counts, intervals=False) if one.harm}


@pytest.mark.parametrize("photos", [15, 300, MUCH.photos])
def test_a_model_as_good_as_the_champion_is_never_rejected(chance, photos) -> None:
    assert not any(harms(simulate(chance, Version(), Traffic(photos))) for _ in range(CANARIES))


def test_a_model_that_is_2_points_worse_is_caught_by_enough_feedback(chance) -> None:
    found = [harms(simulate(chance, Version(wrong=0.05), MUCH)) for _ in range(CANARIES)]
    assert sum(one == {"feedback"} for one in found) >= 18


def test_without_enough_feedback_the_report_says_that_2_points_are_not_excluded(chance) -> None:
    (feedback,) = (one for one in judge(simulate(chance, Version(), Traffic(300))) if one.rule == "feedback")
    assert feedback.trials[1] == pytest.approx(1080, rel=0.1)
    assert feedback.high > 0.02
    (feedback,) = (one for one in judge(simulate(chance, Version(), MUCH)) if one.rule == "feedback")
    assert feedback.high < 0.02


def test_cats_that_are_called_dogs_are_caught_at_10_percent(chance) -> None:
    """By the labels alone, before the candidate has answered 100 photos."""
    swapped = Version(cats=0.02, wrong=0.5)
    for feedback in (0.0, 0.1):
        traffic = Traffic(photos=15, feedback=feedback, shares=(0.1,) * 60)
        for _ in range(CANARIES):
            assert harms(simulate(chance, swapped, traffic)) >= {"label cats", "label dogs"}


@pytest.mark.parametrize(
    ("worse", "metric"),
    [
        (Version(errors=0.03), "errors"),
        (Version(slow=0.05), "slow"),
        (Version(unknown=0.2), "unknown"),
        (Version(unsure=0.4), "unsure"),
    ],
)
def test_each_metric_finds_its_own_harm(chance, worse, metric) -> None:
    for _ in range(CANARIES):
        assert metric in harms(simulate(chance, worse, Traffic(300)))


def test_better_is_no_harm(chance) -> None:
    """As after a training on photos that the champion does not know."""
    better = Version(errors=0.0, slow=0.0, unknown=0.0, unsure=0.0, wrong=0.0)
    worse = Version(errors=0.1, slow=0.3, unknown=0.5, unsure=0.5, wrong=0.2)
    assert not harms(simulate(chance, better, MUCH, champion=worse))


def test_a_tolerance_can_be_changed(chance) -> None:
    counts = simulate(chance, Version(errors=0.03), Traffic(300))
    assert not [one for one in judge(counts, {"errors": 0.1}) if one.harm]


def test_false_alarms_at_the_edge_of_the_tolerance_stay_within_the_stated_rate() -> None:
    """The hardest case: 200 tests of versions that differ by exactly the tolerance, looked at 200 times."""
    chance, alpha, runs = np.random.default_rng(5), 0.05, 200
    for first, tolerance, sizes in ((0.3, 0.05, (90, 10)), (0.02, 0.0, (50, 50)), (0.001, 0.005, (180, 20))):
        rejected = 0
        for _ in range(runs):
            trials = chance.poisson(np.array(sizes)[:, None], (2, 200)).astype(float)
            events = chance.binomial(trials.astype(int), [[first], [first + tolerance]]).astype(float)
            rejected += bool((log_e_values(trials, events, np.array(tolerance)) >= -np.log(alpha)).any())
        assert rejected <= runs * alpha


def test_a_rate_that_moves_for_both_is_no_difference() -> None:
    """The share of traffic grows while more photos are unknown; sums over all time would differ."""
    chance = np.random.default_rng(6)
    rate = np.linspace(0.02, 0.5, 120)
    share = np.where(np.arange(120) < 60, 0.1, 0.5)
    trials = np.stack([1 - share, share]) * 400
    events = chance.binomial(trials.astype(int), np.stack([rate, rate])).astype(float)
    totals = events.sum(axis=1) / trials.sum(axis=1)
    assert totals[1] - totals[0] > RULES["unknown"].tolerance
    assert not harms({("unknown", ""): Counts(trials, events)})


def test_the_bound_holds_the_true_difference() -> None:
    chance, grid = np.random.default_rng(7), np.linspace(-0.9, 0.9, 181)
    trials = np.full((2, 100), 100.0)
    events = chance.binomial(100, [[0.2], [0.3]], (2, 100)).astype(float)
    low = lower_bound(trials, events, ALPHA, grid)
    high = -lower_bound(trials[::-1], events[::-1], ALPHA, grid)
    assert 0.06 < low < 0.1 < high < 0.14


def test_no_data_is_no_evidence() -> None:
    nothing = Counts(np.zeros((2, 0)), np.zeros((2, 0)))
    (finding,) = judge({("errors", ""): nothing})
    assert finding == Finding("errors", "", (0, 0), (0, 0), -1, 1, 0.005, harm=False)
    only_one = Counts(np.array([[5.0, 5], [0, 0]]), np.array([[1.0, 2], [0, 0]]))
    assert not harms({("errors", ""): only_one})


def test_a_thousand_labels_share_one_part_of_alpha() -> None:
    """The first label alone differs: with a thousand others it needs more data than with one."""
    trials = np.full((2, 6), 10.0)
    events = trials * np.array([[0.1], [0.6]])
    one = {("labels", "a"): Counts(trials, events)}
    rare = {("labels", str(number)): Counts(trials, trials * 0) for number in range(1000)}
    assert harms(one)
    assert not harms(one | rare)


def test_a_rule_for_both_directions_has_half_of_its_part_for_each() -> None:
    def blocks(name: str, label: str, alpha: float) -> int:
        """How many blocks it takes until the difference is harm."""
        for number in range(1, 100):
            trials = np.full((2, number), 3.0)
            counts = {(name, label): Counts(trials, trials * np.array([[1 / 3], [2 / 3]]))}
            if any(finding.harm for finding in judge(counts, {name: 0.05}, alpha)):
                return number
        raise AssertionError("no number of blocks is enough")

    assert blocks("labels", "a", ALPHA) == blocks("unsure", "", ALPHA / 2) > blocks("unsure", "", ALPHA)
