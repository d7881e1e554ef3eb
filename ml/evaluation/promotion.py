"""Decides whether a candidate replaces the champion: only if it is shown to be better on the same photos."""

import dataclasses
import json
from collections.abc import Sequence

import numpy as np

from ml.evaluation.compare import (
    BETTER,
    INCOMPARABLE,
    UNSURE,
    WORSE,
    Counts,
    Paired,
    compare,
    compare_hits,
)
from ml.evaluation.metrics import Floats, Labels
from ml.model.decision import is_unknown
from ml.params import Evaluate
from ml.paths import PROMOTION


@dataclasses.dataclass(frozen=True)
class ModelAnswers:
    """The answers of one model.

    Attributes:
        probabilities: of the test photos, [N, classes].
        test_scores: OOD scores of the test photos, [N]; None if the model has no OOD score.
        ood_scores: OOD scores of OOD photos, [M]; None likewise, or if there are no such photos.
    """

    probabilities: Floats
    test_scores: Floats | None = None
    ood_scores: Floats | None = None


@dataclasses.dataclass(frozen=True)
class Promotion:
    """The decision on a candidate.

    Attributes:
        promoted: whether the candidate becomes the champion.
        verdict: verdict on the candidate, see `ml.evaluation.compare`.
        reasons: reasons for the decision, in sentences without a full stop.
        paired: comparison of labels and probabilities; None if the two models cannot be compared.
        accepted: comparison on test photos, which should not be classified as unknown; None if the champion
            has no OOD score.
        detected: comparison on OOD photos, which should; None likewise, or if there are no such photos.
    """

    promoted: bool
    verdict: str
    reasons: list[str]
    paired: Paired | None = None
    accepted: Counts | None = None
    detected: Counts | None = None

    def write(self, **facts: str) -> None:
        """Write promotion.json, with more facts under their own keys."""
        PROMOTION.parent.mkdir(parents=True, exist_ok=True)
        PROMOTION.write_text(json.dumps(dataclasses.asdict(self) | facts, indent=2) + "\n", "utf-8")

    def metrics(self) -> dict[str, float]:
        """Return the numbers for MLflow, by name."""
        metrics = {"promoted": float(self.promoted)}
        if self.paired is not None:
            accuracy, loss = self.paired.accuracy, self.paired.log_loss
            metrics |= {"mcnemar_p": accuracy.p_value, "log_loss_difference": loss.value}
            metrics |= {"log_loss_difference_low": loss.low, "log_loss_difference_high": loss.high}
        return metrics


def promote_uncompared(reason: str) -> Promotion:
    """Promote a candidate without a comparison, because there is no champion that could be compared."""
    return Promotion(True, INCOMPARABLE, [reason])


def keep_taken_back() -> Promotion:
    """Refuse a model that was the champion once, and is not any more: somebody may have taken it back."""
    advice = "to compare it with the champion again, run `python -m ml register --candidate`"
    return Promotion(False, INCOMPARABLE, [f"it was before, and does not come back by itself: {advice}"])


def refuse_candidate(shortfalls: Sequence[str]) -> Promotion:
    """Refuse a model that packaging marked as a candidate, for these reasons."""
    advice = "to promote it nevertheless, run `python -m ml register --candidate`"
    return Promotion(False, INCOMPARABLE, ["the model is only a candidate", *shortfalls, advice])


def decide(
    params: Evaluate,
    candidate: ModelAnswers,
    champion: ModelAnswers,
    labels: Labels,
    name: str,
    balanced: bool = False,
) -> Promotion:
    """Compare a candidate with the champion on the same photos, whose true classes are `labels` [N].

    `name` is how the reasons call the champion. With `balanced`, all classes weigh the same.
    """
    p, ours, theirs = params, candidate.probabilities, champion.probabilities
    paired = compare(ours, theirs, labels, p.resamples, p.confidence, p.min_change, balanced)
    accepted = _compare_unknown(candidate.test_scores, champion.test_scores, p.confidence, unknown=False)
    detected = _compare_unknown(candidate.ood_scores, champion.ood_scores, p.confidence, unknown=True)
    verdict = _verdict(paired, accepted, detected)
    reasons = [
        _summary(verdict, name),
        f"labels: {paired.accuracy}",
        f"log loss: {paired.log_loss}",
    ]
    if accepted is not None:
        reasons.append(f"test photos that are not classified as unknown: {accepted}")
    if detected is not None:
        reasons.append(f"OOD photos that are classified as unknown: {detected}")
    return Promotion(verdict == BETTER, verdict, reasons, paired, accepted, detected)


def _compare_unknown(
    candidate: Floats | None, champion: Floats | None, confidence: float, *, unknown: bool
) -> Counts | None:
    """Compare whether the models are right to classify photos as unknown, or not."""
    if champion is None:
        return None
    if candidate is None:
        candidate = np.ones_like(champion)  # without an OOD score, no photo is classified as unknown
    return compare_hits(is_unknown(candidate) == unknown, is_unknown(champion) == unknown, confidence)


def _verdict(paired: Paired, *counts: Counts | None) -> str:
    """Return worse if anything is worse, else better if anything is better."""
    verdicts = paired.verdicts | {count.verdict for count in counts if count is not None}
    return next((verdict for verdict in (WORSE, BETTER) if verdict in verdicts), UNSURE)


def _summary(verdict: str, champion: str) -> str:
    if verdict == BETTER:
        return f"the new model is clearly better than {champion}, and clearly worse in nothing"
    return (
        f"{champion}, stays: the new model is {'clearly worse' if verdict == WORSE else 'not clearly better'}"
    )
