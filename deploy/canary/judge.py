"""How a candidate is judged beside the champion by the rules, from the counts of both alone."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from deploy.canary.counts import Counts
from deploy.canary.rules import ALPHA, LABELS, RULES
from deploy.canary.sequential import Array, log_e_values, lower_bound

_SIZES = (
    np.array([*(1, 2, 3, 5, 7, 10, 15, 20, 30, 40, 50, 70), *(100, 150, 200, 300, 400, 500, 700, 900)]) / 1000
)


@dataclass(frozen=True)
class Finding:
    """What is known about one metric.

    Attributes:
        rule: name of the rule.
        label: which label, for the rule of labels.
        trials: observations of champion and candidate.
        events: how many of them were events.
        low: the candidate's share minus the champion's is more than this, ...
        high: ... and less than this, each with the rule's part of ALPHA. -1 and 1: nothing is known.
        tolerance: of the rule.
        harm: whether the candidate is worse by more than the tolerance.
    """

    rule: str
    label: str
    trials: tuple[float, float]
    events: tuple[float, float]
    low: float
    high: float
    tolerance: float
    harm: bool

    @property
    def name(self) -> str:
        """Return a name for people."""
        return f"label {self.label}" if self.label else self.rule


def judge(
    counts: Mapping[tuple[str, str], Counts],
    tolerances: Mapping[str, float] | None = None,
    alpha: float = ALPHA,
    intervals: bool = True,
) -> list[Finding]:
    """Return a finding for each rule and label that there are counts of.

    The probability that a candidate within all tolerances is ever found harmful is at most alpha, however
    often this is called while counts grow: each rule has an equal part (Bonferroni).

    Args:
        counts: by rule and label; the label is empty except for the rule of labels.
        tolerances: that replace those of the rules.
        alpha: that probability.
        intervals: whether to compute the intervals of metrics without harm too, which takes longer.
    """
    labels = max(1, sum(rule == LABELS for rule, _ in counts))
    findings = []
    for (name, label), one in sorted(
        counts.items(), key=lambda item: (list(RULES).index(item[0][0]), item[0])
    ):
        rule = RULES[name]
        tolerance = (tolerances or {}).get(name, rule.tolerance)
        part = alpha / len(RULES) / (labels if name == LABELS else 1) / (2 if rule.both_ways else 1)
        findings.append(_finding(name, label, one, tolerance, part, rule.both_ways, intervals))
    return findings


def _finding(
    rule: str, label: str, counts: Counts, tolerance: float, alpha: float, both_ways: bool, intervals: bool
) -> Finding:
    trials, events = counts.trials.sum(axis=1), counts.events.sum(axis=1)
    low, high, harm = -1.0, 1.0, False
    # If both shares of a label are small, so is their difference; there may be many such labels.
    if not label or (events >= tolerance * trials).any():
        up, down = counts, Counts(counts.trials[::-1], counts.events[::-1])
        harm = _exceeds(up, tolerance, alpha) or (both_ways and _exceeds(down, tolerance, alpha))
        if intervals or harm:
            grid = _grid(tolerance)
            low = lower_bound(up.trials, up.events, alpha, grid)
            high = -lower_bound(down.trials, down.events, alpha, grid)
    first, second = (tuple(map(float, values)) for values in (trials, events))
    return Finding(rule, label, (first[0], first[1]), (second[0], second[1]), low, high, tolerance, harm)


def _exceeds(counts: Counts, tolerance: float, alpha: float) -> bool:
    """Return whether the difference has been found to exceed the tolerance, now or at an earlier block."""
    log_e = log_e_values(counts.trials, counts.events, np.array(tolerance))
    return bool((log_e >= -np.log(alpha)).any())


def _grid(tolerance: float) -> Array:
    """Return differences from -0.9 to 0.9, finer near 0, with the tolerance among them."""
    sizes = np.union1d(_SIZES, [tolerance])
    return np.unique(np.concatenate([-sizes, [0.0], sizes]))
