"""Chooses the ONNX model: int8 if its answers stay close to torch's, otherwise float32; one look or two."""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np

from ml.data.dataset import Dataset
from ml.evaluation.compare import compare_losses
from ml.evaluation.metrics import Floats, Labels, log_losses
from ml.evaluation.verdicts import WORSE
from ml.model.onnx_model import OnnxModel
from ml.packaging.conditions import Condition
from ml.packaging.looks import Sure, at_size, combine
from ml.packaging.quantize import recalibrate, to_int8
from ml.params import Params

_ERROR_RATE, _MAX_GROWTH = 0.04, 5
"""Networks with more errors have a larger tolerance, up to five times as large."""


@dataclasses.dataclass(frozen=True)
class ChosenModel:
    """The ONNX model that is packaged.

    Attributes:
        precision: `int8` or `float32`.
        onnx: the serialized model.
        model: the same model, ready to run.
        probabilities: its answers to the test photos, [N, classes].
        ood_scores: its OOD scores of the test photos, [N].
        mean_difference: mean over the test photos of the largest difference of a probability from torch's.
        sure: when its first look suffices; None: it takes one look.
        comparison: its precision, and how its answers differ from torch's.
        not_taken: the same of the precisions that were tried before.
        remedies: the parameters whose limits it exceeds, with values that it would meet; empty: its answers
            are close enough.
    """

    precision: str
    onnx: bytes
    model: OnnxModel
    probabilities: Floats
    ood_scores: Floats
    mean_difference: float
    sure: Sure | None
    comparison: str
    not_taken: list[str]
    remedies: Sequence[str] = ()

    def condition(self) -> Condition:
        """Return the condition that its answers are those of the network in PyTorch."""
        detail = "; ".join([*self.not_taken, self.comparison])
        remedies = " ".join(self.remedies)
        return Condition("an ONNX model that answers as PyTorch does", not remedies, detail, remedies)


def choose_precision(
    params: Params, data: Dataset, exact: Mapping[int, bytes], expected: Floats
) -> ChosenModel:
    """Return the first of int8 and float32 whose answers stay close to torch's, within `params.package`.

    If neither is close enough, it is the float32 model. The probabilities of a network that is wrong on many
    photos move more easily: the tolerance grows with its error rate, as long as its log loss does not.

    Args:
        params: all parameters.
        data: the prepared photos.
        exact: the float32 ONNX models by the height and width of their photos: that of full size last, before
            it that of the first look, if there is one. They have the full weights, so those of int8 models
            are rounded once.
        expected: torch's probabilities of the test photos in full size, [N, classes].
    """
    rows = data.rows("test")
    labels = data.labels[rows]
    not_taken: list[str] = []
    for precision in ("int8", "float32"):
        onnx, sure = _looks(params, data, exact, precision)
        model = OnnxModel(onnx)
        outputs = model.run(data.images, rows, ["probabilities", "known"])
        probabilities = outputs["probabilities"]
        difference = float(np.abs(probabilities - expected).max(1).mean())
        remedies = _remedies(params, probabilities, expected, labels, difference)
        gain = (_hits(probabilities, labels) - _hits(expected, labels)) / len(rows)
        comparison = f"{precision}: accuracy {gain:+.4f}, mean difference {difference:.4f}"
        if not remedies or precision == "float32":
            break
        not_taken.append(comparison)
    scores = outputs["known"]
    return ChosenModel(
        precision, onnx, model, probabilities, scores, difference, sure, comparison, not_taken, remedies
    )


def _looks(
    params: Params, data: Dataset, exact: Mapping[int, bytes], precision: str
) -> tuple[bytes, Sure | None]:
    """Return the ONNX model in this precision, and when its first look suffices, if it takes two."""
    *smaller, full_size = exact
    full = to_int8(params, data, exact[full_size]) if precision == "int8" else exact[full_size]
    for size in smaller:
        photos = at_size(data, size)
        first = (to_int8 if precision == "int8" else recalibrate)(params, photos, exact[size])
        val, names = data.rows("val"), ["probabilities", "known"]
        seen_first, seen_full = (
            OnnxModel(onnx).run(one.images, val, names) for onnx, one in ((first, photos), (full, data))
        )
        sure = Sure.choose(params.evaluate, (size, full_size), seen_first, seen_full, data.labels[val])
        if sure:
            return combine(first, full, sure), sure
    return full, None


def _remedies(
    params: Params, probabilities: Floats, expected: Floats, labels: Labels, difference: float
) -> list[str]:
    """Return the limits of `package`, which params.yaml explains, that answers exceed, with higher values."""
    p, photos, remedies = params.package, len(labels), []
    lost = _hits(expected, labels) - _hits(probabilities, labels)
    if lost > max(p.max_accuracy_drop * photos, 1):
        remedies.append(f"package.max_accuracy_drop={np.ceil(1000 * lost / photos) / 1000:g}")
    growth = min((1 - _hits(expected, labels) / photos) / _ERROR_RATE, _MAX_GROWTH)
    is_tolerated = difference <= growth * p.max_mean_difference
    if difference > p.max_mean_difference and not (
        is_tolerated and not _is_worse(params, probabilities, expected, labels)
    ):
        remedies.append(f"package.max_mean_difference={np.ceil(1000 * difference) / 1000:g}")
    return remedies


def _hits(probabilities: Floats, labels: Labels) -> int:
    return int((probabilities.argmax(1) == labels).sum())


def _is_worse(params: Params, probabilities: Floats, expected: Floats, labels: Labels) -> bool:
    """Return whether the log loss of probabilities is clearly larger than that of the expected ones."""
    p = params.evaluate
    losses, expected_losses = log_losses(probabilities, labels), log_losses(expected, labels)
    return compare_losses(losses, expected_losses, p.resamples, p.confidence, p.min_change).verdict == WORSE
