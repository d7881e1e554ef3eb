"""Whether a candidate becomes the champion: it must be shown to be better, on photos that both answer."""

import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ml.dataset import Dataset
from ml.errors import PipelineError
from ml.evaluation.compare import Counts, Paired, compare, count
from ml.evaluation.verdicts import BETTER, INCOMPARABLE, UNSURE, WORSE
from ml.known import THRESHOLD
from ml.metrics import Floats
from ml.params import Params
from ml.tracking import registry, use_store

NO_HOLDER = ""


@dataclasses.dataclass(frozen=True)
class Answers:
    """What a candidate says.

    Attributes:
        probabilities: for the test photos, [N, classes].
        known: whether they show any of the classes, scores [N].
        others: likewise for photos of something else [M]; None: there are none.
    """

    probabilities: Floats
    known: Floats
    others: Floats | None = None


@dataclasses.dataclass(frozen=True)
class Promotion:
    """What was decided.

    Attributes:
        promoted: whether the candidate is to be champion.
        verdict: on the candidate, see `ml.evaluation.verdicts`.
        reasons: why, or why not, in sentences.
        holder: number of the champion's version in the registry; `NO_HOLDER`: there is none.
        test_digest: which photos, see `Dataset.digest`.
        paired: labels and probabilities of the two; None: they can't be compared.
        refused: photos of the classes that are not called unknown; None where the holder calls nothing so.
        others: photos of something else that are; None likewise, or where there are none.
    """

    promoted: bool
    verdict: str
    reasons: list[str]
    holder: str
    test_digest: str
    paired: Paired | None = None
    refused: Counts | None = None
    others: Counts | None = None

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", "utf-8")

    def figures(self) -> dict[str, float]:
        """Return what is logged, by name."""
        found = {"promoted": float(self.promoted)}
        if self.paired is not None:
            accuracy, loss = self.paired.accuracy, self.paired.log_loss
            found |= {"mcnemar_p": accuracy.p_value, "log_loss_difference": loss.value}
            found |= {"log_loss_difference_low": loss.low, "log_loss_difference_high": loss.high}
        return found


def read(path: Path) -> dict[str, Any]:
    """Return what `Promotion.write` wrote, as plain values.

    Raises:
        PipelineError: it isn't there.
    """
    try:
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        bool(found["promoted"]), str(found["verdict"]), list(found["reasons"]), str(found["holder"])
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PipelineError(f"{path} is missing or broken: run `dvc repro`") from error
    return found


def decide(
    params: Params, candidate: Answers, data: Dataset, others: NDArray[np.uint8] | None = None
) -> Promotion:
    """Compare with the champion of the registry.

    Args:
        params: the model's name, and how sure a difference must be.
        candidate: its answers.
        data: whose test photos it answered.
        others: photos of something else that it answered, [M, H, W, 3].
    """
    use_store()
    digest = data.digest("test")
    champion = registry.champion(params.tracking.model)
    if champion is None:
        return Promotion(True, INCOMPARABLE, ["there is no champion yet"], NO_HOLDER, digest)
    try:
        twin, answers = champion.answers(data)
    except registry.IncomparableError as error:
        reason = f"the champion, version {champion.number}, can't answer these photos: {error}"
        return Promotion(True, INCOMPARABLE, [reason], champion.number, digest)

    p, labels = params.evaluate, data.labels[data.rows("test")]
    paired = compare(
        candidate.probabilities, answers["probabilities"], labels, p.resamples, p.confidence, p.min_change
    )
    refused = strangers = None
    if "known" in answers:
        refused = count(candidate.known >= THRESHOLD, answers["known"] >= THRESHOLD, p.confidence)
        if others is not None and candidate.others is not None:
            held = twin.run(others)["known"]
            strangers = count(candidate.others < THRESHOLD, held < THRESHOLD, p.confidence)
    more = {"refused": refused, "others": strangers}
    verdict = _verdict(paired, refused, strangers)
    promoted = verdict == BETTER or (verdict == UNSURE and refused is None)
    reasons = [
        _summary(verdict, promoted, f"the champion, version {champion.number}"),
        *_details(paired, more),
    ]
    return Promotion(promoted, verdict, reasons, champion.number, digest, paired, refused, strangers)


def confirm(evaluated: Path, twin: Promotion) -> Promotion:
    """Return what is to be done: evaluate's decision on the network, which its twin must bear out.

    Where the champion is another by now, the twin's answers alone decide.

    Args:
        evaluated: what evaluate wrote.
        twin: decided by the answers of the twin that is to be served.

    Raises:
        PipelineError: evaluate's decision isn't there.
    """
    found = read(evaluated)
    if (found["holder"], found["test_digest"]) != (twin.holder, twin.test_digest) or not twin.promoted:
        return twin
    if found["promoted"]:
        return twin
    return dataclasses.replace(twin, promoted=False, verdict=found["verdict"], reasons=found["reasons"])


def _verdict(paired: Paired, *counts: Counts | None) -> str:
    found = paired.verdicts | {some.verdict for some in counts if some is not None}
    return next((verdict for verdict in (WORSE, BETTER) if verdict in found), UNSURE)


def _summary(verdict: str, promoted: bool, holder: str) -> str:
    if verdict == BETTER:
        return f"the candidate is clearly better than {holder}, and in nothing clearly worse"
    if verdict == WORSE:
        return f"{holder}, stays: the candidate is clearly worse"
    if promoted:
        return (
            f"the candidate can say that a photo shows none of the classes; {holder}, can't, and is no better"
        )
    return f"{holder}, stays: nothing shows clearly that the candidate is better"


def _details(paired: Paired, more: Mapping[str, Counts | None]) -> list[str]:
    told = {"refused": "photos of the classes that are let pass", "others": "photos of something else told"}
    return [
        f"labels: {paired.accuracy}",
        f"log loss: {paired.log_loss}",
        *(f"{told[name]}: {counts}" for name, counts in more.items() if counts is not None),
    ]
