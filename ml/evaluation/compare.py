"""Two models on the same photos: whether one is better, by tests that look at each photo's pair of answers.

Two intervals that overlap say little, since a hard photo is hard for both models. Paired, that part falls
away.
"""

import dataclasses

import numpy as np
from numpy.typing import NDArray

from ml.evaluation.verdicts import BETTER, UNSURE, WORSE
from ml.metrics import Floats, Interval, Labels, log_losses, resampled


@dataclasses.dataclass(frozen=True)
class Counts:
    """On which photos one model alone does right.

    Attributes:
        photos: that both answered.
        candidate: photos on which the candidate alone does.
        holder: photos on which the holder alone does.
        p_value: of McNemar's exact test (McNemar 1947): how likely it is that these are divided as unevenly,
            or more so, where both models are equally good.
        verdict: on the candidate.
    """

    photos: int
    candidate: int
    holder: int
    p_value: float
    verdict: str

    def __str__(self) -> str:
        return (
            f"{self.verdict}; of {self.photos} photos the candidate alone is right on {self.candidate}, the "
            f"holder alone on {self.holder} (McNemar's exact test, p = {self.p_value:.2g})"
        )


@dataclasses.dataclass(frozen=True)
class Difference:
    """The candidate's mean log loss less the holder's.

    Attributes:
        value: the difference.
        low: lower end of its paired bootstrap interval.
        high: upper end.
        share: the difference as a share of the holder's log loss.
        verdict: on the candidate.
    """

    value: float
    low: float
    high: float
    share: float
    verdict: str

    def __str__(self) -> str:
        return (
            f"{self.verdict}; the candidate's less the holder's is {self.value:+.5f} ({self.share:+.1%}), "
            f"with a paired bootstrap interval of {self.low:+.5f} to {self.high:+.5f}"
        )


@dataclasses.dataclass(frozen=True)
class Paired:
    """A candidate against the holder of the place that it wants: labels, and probabilities."""

    accuracy: Counts
    log_loss: Difference

    @property
    def verdicts(self) -> set[str]:
        """What was found of the candidate."""
        return {self.accuracy.verdict, self.log_loss.verdict}


def compare(
    candidate: Floats, holder: Floats, labels: Labels, resamples: int, confidence: float, min_change: float
) -> Paired:
    """Compare two models' probabilities [N, classes] for the same photos, whose labels [N] are known.

    Args:
        candidate: that may take the holder's place.
        holder: that has it.
        labels: columns of the true classes.
        resamples: of the bootstrap.
        confidence: of the test and of the interval.
        min_change: a difference of log loss under this share of the holder's counts as none, however sure.
    """
    return Paired(
        count(candidate.argmax(1) == labels, holder.argmax(1) == labels, confidence),
        differ(log_losses(candidate, labels), log_losses(holder, labels), resamples, confidence, min_change),
    )


def count(candidate: NDArray[np.bool_], holder: NDArray[np.bool_], confidence: float) -> Counts:
    """Compare on which of the same photos [N] each does right."""
    from scipy.stats import binomtest

    gained, lost = int((candidate & ~holder).sum()), int((holder & ~candidate).sum())
    p_value = float(binomtest(gained, gained + lost).pvalue) if gained + lost else 1.0
    sure = p_value <= 1 - confidence
    return Counts(len(candidate), gained, lost, p_value, _verdict(gained > lost) if sure else UNSURE)


def differ(
    candidate: Floats, holder: Floats, resamples: int, confidence: float, min_change: float
) -> Difference:
    """Compare the losses [N] of the same photos."""
    found: Interval = resampled(candidate - holder, resamples, confidence)
    share = found.value / max(float(holder.mean()), 1e-15)
    sure = not found.low <= 0 <= found.high and abs(share) >= min_change
    verdict = _verdict(found.value < 0) if sure else UNSURE
    return Difference(found.value, found.low, found.high, share, verdict)


def _verdict(better: bool) -> str:
    return BETTER if better else WORSE
