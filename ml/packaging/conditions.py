"""The conditions that a model must meet. A model that fails one is written all the same, as a candidate.

Most are relative, so that they fit any photos: the model must be better than simpler methods, as far as the
photos can show. A difference that chance explains is held against no model.
"""

import dataclasses
from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from ml.data.dataset import Dataset
from ml.evaluation.baselines import Probe, answer_majority
from ml.evaluation.calibration import WRONG_ERROR, error_by_chance
from ml.evaluation.compare import Counts, compare_hits, compare_recalls
from ml.evaluation.metrics import Floats, Labels
from ml.evaluation.verdicts import BETTER, WORSE
from ml.params import Package, Params

IMBALANCED = 1.5
"""Classes are imbalanced if the largest has this many times the photos of the smallest."""


@dataclasses.dataclass(frozen=True)
class Condition:
    """A condition, and whether the model meets it.

    Attributes:
        name: what is demanded.
        met: whether the model meets it.
        detail: the figures behind it, in one sentence without a full stop.
        remedy: the parameter that holds the limit, with a value that the model would meet; empty: there is
            none.
    """

    name: str
    met: bool
    detail: str
    remedy: str = ""


def score_of(data: Dataset) -> str:
    """Return the metric that counts: `balanced_accuracy` if the classes are imbalanced, else `accuracy`."""
    counts = np.bincount(data.labels, minlength=len(data.classes))
    return "balanced_accuracy" if counts.max() >= IMBALANCED * counts.min() else "accuracy"


def minimum_accuracy(params: Package, classes: Sequence[str]) -> float:
    """Return `package.min_accuracy`, or, if that is null, the entry of `package.floors` for these classes."""
    if params.min_accuracy is not None:
        return params.min_accuracy
    return params.floors.get(", ".join(sorted(classes)), 0.0)


def check_accuracy(
    params: Params,
    data: Dataset,
    probabilities: Floats,
    metrics: Mapping[str, float],
    cross_validation: Mapping[str, float],
) -> list[Condition]:
    """Compare a model with `package.min_accuracy`, and with the simpler methods that `evaluate` measured.

    If the test split has too few photos, the cross-validated probe answers for the model, except in the
    comparison with the probe itself.

    Args:
        params: all parameters.
        data: the prepared photos.
        probabilities: the model's answers to the test photos, [N, classes].
        metrics: of these answers.
        cross_validation: metrics of the cross-validated probe; empty if there is none.
    """
    probe = Probe.read()
    score, labels = score_of(data), data.labels[data.rows("test")]
    title = score.replace("_", " ")
    majority = answer_majority(data)[0].argmax()
    hits = probabilities.argmax(1) == labels
    conditions = []
    if probe is not None and len(probe.crossed):
        judged, truth, measured = probe.crossed.argmax(1), probe.crossed_labels, cross_validation
        where = f"of a linear probe, cross-validated on {len(truth)} photos"
    else:
        judged, truth, measured = probabilities.argmax(1), labels, metrics
        where = f"on {len(truth)} test photos"
    if minimum := minimum_accuracy(params.package, data.classes):
        # The probe only bounds what the network reaches, so the doubt is in favour of the network.
        value = measured[score if truth is labels else f"{score}_high"]
        conditions.append(
            Condition(
                f"{title} of at least {minimum:g}",
                value >= minimum,
                f"{title} {'' if truth is labels else 'at most '}{value:.4f} {where}",
                f"package.min_accuracy={np.floor(1000 * value) / 1000:g}",
            )
        )
    always = truth == majority
    against_majority = _compare(judged == truth, always, truth, score, params)
    could_show = _compare(np.ones_like(always), always, truth, score, params).verdict == BETTER
    conditions.append(
        Condition(
            f"better than always answering {data.classes[majority]}",
            against_majority.verdict == BETTER or not could_show,
            f"{title} {where}: {_described(against_majority, 'that answer')}"
            + ("" if could_show else "; these are too few photos to show it"),
        )
    )
    if probe is not None:
        against_probe = _compare(hits, probe.test.argmax(1) == labels, labels, score, params)
        conditions.append(
            Condition(
                "not worse than a linear probe on the pretrained features",
                against_probe.verdict != WORSE,
                f"{title} on {len(labels)} test photos: {_described(against_probe, 'the probe')}",
            )
        )
    return conditions


def check_probabilities(params: Params, probabilities: Floats, ece: float) -> Condition:
    """Check that the calibration error is not so large that the probabilities mislead."""
    limit = max(WRONG_ERROR, error_by_chance(params.evaluate, probabilities))
    return Condition(
        "probabilities that roughly agree with the accuracy",
        ece <= limit,
        f"the calibration error is {ece:.3f}, the limit {limit:.3f}",
    )


def _compare(
    hits: NDArray[np.bool_], baseline: NDArray[np.bool_], labels: Labels, score: str, params: Params
) -> Counts:
    confidence = params.evaluate.confidence
    if score == "accuracy":
        return compare_hits(hits, baseline, confidence)
    return compare_recalls(hits, baseline, labels, confidence)


def _described(counts: Counts, other: str) -> str:
    return (
        f"{counts.verdict}; only the model is right on {counts.candidate}, only {other} on {counts.baseline} "
        f"({counts.test}, p = {counts.p_value:.2g})"
    )
