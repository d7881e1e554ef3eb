"""Compares two models on the same photos by paired tests.

Overlapping intervals of two models show little, because the same photos are hard for both. A paired test
removes that shared part.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from ml.evaluation.metrics import Floats, Labels, bootstrap_mean, log_losses

BETTER = "better"
WORSE = "worse"
UNSURE = "no clear difference"
INCOMPARABLE = "incomparable"
"""Verdicts on a candidate."""
_DRAWS = 10_000


@dataclasses.dataclass(frozen=True)
class Counts:
    """The photos on which exactly one of two models is right.

    Attributes:
        photos: number of photos that both models answered.
        candidate: number of photos on which only the candidate is right.
        baseline: number of photos on which only the other model is right.
        p_value: the probability of a split at least as uneven if both models are equally good.
        verdict: verdict on the candidate.
        test: name of the test that has this p-value.
    """

    photos: int
    candidate: int
    baseline: int
    p_value: float
    verdict: str
    test: str = "McNemar's exact test"

    def __str__(self) -> str:
        return (
            f"{self.verdict}; of {self.photos} photos, only the new model is right on {self.candidate}, only "
            f"the other model on {self.baseline} ({self.test}, p = {self.p_value:.2g})"
        )


@dataclasses.dataclass(frozen=True)
class Difference:
    """The candidate's mean log loss minus the other model's.

    Attributes:
        value: the difference; `low` and `high` are the ends of its paired bootstrap interval.
        share: the difference divided by the other model's log loss.
        verdict: verdict on the candidate.
        balanced: whether all classes weigh the same.
    """

    value: float
    low: float
    high: float
    share: float
    verdict: str
    balanced: bool = False

    def __str__(self) -> str:
        return (
            f"{self.verdict}; new minus other model is {self.value:+.5f} ({self.share:+.1%}), "
            f"with a paired bootstrap interval of {self.low:+.5f} to {self.high:+.5f}"
            + (", all classes weigh the same" if self.balanced else "")
        )


@dataclasses.dataclass(frozen=True)
class Paired:
    """The paired comparison of a candidate with a baseline: labels, and probabilities."""

    accuracy: Counts
    log_loss: Difference

    @property
    def verdicts(self) -> set[str]:
        """Both verdicts on the candidate."""
        return {self.accuracy.verdict, self.log_loss.verdict}


def compare(
    candidate: Floats,
    baseline: Floats,
    labels: Labels,
    resamples: int,
    confidence: float,
    min_change: float,
    balanced: bool = False,
) -> Paired:
    """Compare two models' probabilities [N, classes] for the same photos with the true labels [N].

    Args:
        candidate: probabilities of the new model.
        baseline: probabilities of the model that it is compared with, such as the champion.
        labels: indices of the true classes.
        resamples: number of bootstrap resamples.
        confidence: confidence of the test and of the interval.
        min_change: a difference of log loss below this share of the baseline's counts as none, even if it is
            significant.
        balanced: whether all classes weigh the same, so that rare ones count.
    """
    hits, others = candidate.argmax(1) == labels, baseline.argmax(1) == labels
    losses, other_losses = log_losses(candidate, labels), log_losses(baseline, labels)
    if not balanced:
        difference = compare_losses(losses, other_losses, resamples, confidence, min_change)
        return Paired(compare_hits(hits, others, confidence), difference)
    counts = np.bincount(labels)
    weights = len(labels) / ((counts > 0).sum() * counts[labels])  # 1 on average
    difference = compare_losses(losses * weights, other_losses * weights, resamples, confidence, min_change)
    recalls = compare_recalls(hits, others, labels, confidence)
    return Paired(recalls, dataclasses.replace(difference, balanced=True))


def compare_hits(candidate: NDArray[np.bool_], baseline: NDArray[np.bool_], confidence: float) -> Counts:
    """Compare whether each model is right on the same photos [N], by McNemar's exact test (McNemar 1947)."""
    from scipy.stats import binomtest

    gained, lost = int((candidate & ~baseline).sum()), int((baseline & ~candidate).sum())
    p_value = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    significant = p_value <= 1 - confidence
    return Counts(len(candidate), gained, lost, p_value, _verdict(gained > lost, significant))


def compare_recalls(
    candidate: NDArray[np.bool_], baseline: NDArray[np.bool_], labels: Labels, confidence: float
) -> Counts:
    """Compare the balanced accuracy: whether each model is right on the same photos [N] of classes `labels`.

    It is McNemar's test with a weight per photo, so that each class weighs the same: if both models are
    equally good, each photo on which one of them is right could as well be the other's.
    """
    signs = candidate.astype(np.int64) - baseline.astype(np.int64)
    counts = np.bincount(labels)
    weights = 1 / np.maximum(counts, 1)
    differing = np.bincount(labels[signs != 0], minlength=len(counts))
    balance = float((weights[labels] * signs).sum())
    draws = np.random.default_rng(0).binomial(differing, 0.5, (_DRAWS, len(counts)))
    by_chance = np.abs((2 * draws - differing) @ weights)
    as_large = int((by_chance >= abs(balance) - 1e-9).sum())
    p_value = (1 + as_large) / (1 + _DRAWS)  # never 0 (Phipson and Smyth 2010)
    verdict = _verdict(balance > 0, p_value <= 1 - confidence)
    gained, lost = int((signs > 0).sum()), int((signs < 0).sum())
    return Counts(len(labels), gained, lost, p_value, verdict, "McNemar's test, all classes weigh the same")


def compare_losses(
    candidate: Floats, baseline: Floats, resamples: int, confidence: float, min_change: float
) -> Difference:
    """Compare the losses of two models on the same photos [N]."""
    mean = bootstrap_mean(candidate - baseline, resamples, confidence)
    share = mean.value / max(float(baseline.mean()), 1e-15)
    significant = not mean.low <= 0 <= mean.high and abs(share) >= min_change
    return Difference(mean.value, mean.low, mean.high, share, _verdict(mean.value < 0, significant))


def _verdict(better: bool, significant: bool) -> str:
    if not significant:
        return UNSURE
    return BETTER if better else WORSE
