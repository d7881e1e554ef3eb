"""The rules by which a candidate is judged beside the champion, and where a canary ends.

Separate from `judge`, which imports numpy, so that deploys without a canary start sooner.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from deploy.target import DeployError

ALPHA = 0.01
"""Probability with which a candidate that is within all tolerances is rejected, at most."""
LABELS, FEEDBACK, UNKNOWN = "labels", "feedback", "unknown"


@dataclass(frozen=True)
class Rule:
    """What is compared, and how much worse the candidate may be.

    Attributes:
        events: what the share is of, for people.
        tolerance: largest difference of the shares that is not harm, from 0 to 1.
        both_ways: whether a smaller share is harm too.
    """

    events: str
    tolerance: float
    both_ways: bool = False


RULES: Mapping[str, Rule] = {
    "errors": Rule("requests answered with 5xx", 0.005),
    "slow": Rule("predictions slower than the current version's 99th percentile before the canary", 0.01),
    UNKNOWN: Rule("photos answered `unknown`", 0.05),
    # Share of the photos that got a class, so that a model that answers fewer photos as unknown does not
    # count as different.
    LABELS: Rule("photos that got this label, of those that got a class", 0.05, both_ways=True),
    "unsure": Rule("photos answered with a confidence of at most 0.8", 0.1),
    FEEDBACK: Rule("answers that users judged wrong", 0.005),
}
"""By name. Each has the same part of ALPHA, which all labels share."""

MAX_POINTS = 10_000
"""Prometheus answers with at most 11,000."""


class CandidateRejectedError(DeployError):
    """The candidate must not get all traffic: it does harm, or this cannot be seen."""
