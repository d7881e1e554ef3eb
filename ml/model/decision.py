"""The decision rule: from a model's raw outputs to the label and the numbers that people see.

The service, the command line and the pipeline use it, so that a model gives the same answer in each of them.
"""

from collections.abc import Collection, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ml.model.errors import AnswerError
from ml.model.manifest import UNKNOWN, Manifest

THRESHOLD = 0.5
"""OOD threshold of the models that this pipeline makes: scores are calibrated to it."""
DIGITS = 6
"""Decimal places of a probability or score in an answer."""
TOLERANCE = 1e-3
"""How far the sum of the probabilities may be from 1."""


@dataclass(frozen=True)
class Decision:
    """The answer for one photo.

    Attributes:
        label: the likeliest class, or `UNKNOWN`.
        likeliest: index of the likeliest class.
        probabilities: of every class, rounded to 6 digits; they sum to 1.
        known: the OOD score, from 0 (a photo of none of the classes) to 1, rounded to 6 digits; None: the
            model has no OOD score.
    """

    label: str
    likeliest: int
    probabilities: dict[str, float]
    known: float | None


def decide_label(
    manifest: Manifest, probabilities: ArrayLike, known: float | None = None, allow_unknown: bool = True
) -> Decision:
    """Return the answer for one photo.

    Args:
        manifest: of the model; its `known` holds the OOD threshold, without which a score has no meaning.
        probabilities: the model's output for each class, [classes].
        known: the model's output `known`; None: the model has no such output.
        allow_unknown: False: the label is always a class.

    Raises:
        AnswerError: the numbers are no probabilities.
    """
    row = np.asarray(probabilities, np.float64).tolist()
    if not are_probabilities(row):
        raise AnswerError("the network returns no probabilities for this photo")
    likeliest = max(range(len(row)), key=row.__getitem__)
    label, score = manifest.classes[likeliest], None
    if known is not None and manifest.known:
        score = float(bounded(known))
        may_be_unknown = allow_unknown and UNKNOWN not in manifest.classes
        if may_be_unknown and score < manifest.known["threshold"]:
            label = UNKNOWN
    rounded = [round(value, DIGITS) for value in row]
    # The rounding error goes to the likeliest class, where it matters least.
    rounded[likeliest] = round(1.0 - sum(rounded[:likeliest]) - sum(rounded[likeliest + 1 :]), DIGITS)
    return Decision(label, likeliest, dict(zip(manifest.classes, rounded, strict=True)), score)


def are_probabilities(row: Sequence[float]) -> bool:
    """Return whether the numbers of all classes are finite, not negative, and sum to 1."""
    return abs(sum(row) - 1) < TOLERANCE and min(row) > -TOLERANCE  # both are false for NaN


def can_be_unknown(manifest: Manifest, outputs: Collection[str]) -> bool:
    """Return whether `decide_label` may answer `UNKNOWN` for a model with these outputs.

    It may not if one of the classes has that name: a label must not have two meanings.
    """
    return "known" in outputs and bool(manifest.known) and UNKNOWN not in manifest.classes


def bounded(scores: ArrayLike) -> NDArray[np.float64]:
    """Return OOD scores between 0 and 1, rounded; one that is not a finite number counts as 0."""
    raw = np.asarray(scores, np.float64)
    return np.asarray(np.where(np.isfinite(raw), raw, 0).clip(0, 1).round(DIGITS))


def is_unknown(scores: ArrayLike) -> NDArray[np.bool_]:
    """Return, for each OOD score, whether the photo counts as showing none of the classes."""
    return np.asarray(bounded(scores) < THRESHOLD)
