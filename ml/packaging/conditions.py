"""The conditions that a model must meet. A model that fails one is written all the same, as a candidate.

Most are relative, so that they fit any photos: the model must be better than simpler methods, as far as the
photos can show. A difference that chance can explain doesn't count.
"""

import dataclasses
from collections.abc import Collection, Mapping

import numpy as np

from ml.data.dataset import Dataset
from ml.evaluation.baselines import Probe, answer_majority, has_few_test_photos
from ml.evaluation.calibration import CANDIDATE_FROM, error_by_chance
from ml.evaluation.compare import WORSE, compare_hits, compare_recalls
from ml.evaluation.metrics import Floats, Interval, Labels, balanced_accuracy, wilson
from ml.model.manifest import UNKNOWN
from ml.params import Package, Params

IMBALANCED = 1.5
"""Classes are imbalanced if the largest has this many times the photos of the smallest."""
MAX_UNKNOWN = 0.25
"""Share of the test photos that may be answered as unknown; about `evaluate.ood_rejected` is expected."""


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


def minimum_accuracy(params: Package, data: Dataset) -> float:
    """Return `package.min_accuracy`, or, if that is null, the entry of `package.floors` for these classes.

    Too few test photos cannot show whether a model meets a floor that nobody set for them.
    """
    if params.min_accuracy is not None:
        return params.min_accuracy
    if has_few_test_photos(data):
        return 0.0
    floors = (floor.accuracy for floor in params.floors if sorted(floor.classes) == sorted(data.classes))
    return next(floors, 0.0)


def check_accuracy(params: Params, data: Dataset, probabilities: Floats) -> list[Condition]:
    """Compare a model with `package.min_accuracy`, and with the simpler methods of `ml.evaluation.baselines`.

    If the test split has too few photos, the cross-validated probe answers for the model, except in the
    comparison with the probe itself. `probabilities` [N, classes] are the model's for the test photos.
    """
    confidence, probe, score = params.evaluate.confidence, Probe.read(), score_of(data)
    labels, title = data.labels[data.rows("test")], score.replace("_", " ")
    answered, truth, where = probabilities.argmax(1), labels, f"on {len(labels)} test photos"
    if crossed := probe is not None and len(probe.crossed) > 0:
        answered, truth = probe.crossed.argmax(1), probe.crossed_labels
        where = f"of a linear probe, cross-validated on {len(truth)} photos"
    measured = _measure(score, answered, truth, confidence)
    shown = f"{title} {measured.value:.4f} ({measured.low:.4f} to {measured.high:.4f}) {where}"
    conditions = []
    if minimum := minimum_accuracy(params.package, data):
        # The network can be better than the probe, so the doubt is in its favour.
        value = measured.high if crossed else measured.value
        own = _measure(score, probabilities.argmax(1), labels, confidence)
        remedy = f"package.min_accuracy={np.floor(1000 * value) / 1000:g}"
        conditions.append(
            Condition(f"{title} of at least {minimum:g}", max(value, own.low) >= minimum, shown, remedy)
        )
    majority = answer_majority(data)[0].argmax()
    constant = _measure(score, np.full_like(truth, majority), truth, confidence).value
    can_show = _measure(score, truth, truth, confidence).low > constant
    conditions.append(
        Condition(
            f"better than always answering {data.classes[majority]}",
            measured.low > constant or not can_show,
            f"{shown}; that answer has {constant:.4f}"
            + ("" if can_show else "; these are too few photos to show a difference"),
        )
    )
    if probe is not None:
        hits, probe_hits = (one.argmax(1) == labels for one in (probabilities, probe.test))
        if score == "accuracy":
            counts = compare_hits(hits, probe_hits, confidence)
        else:
            counts = compare_recalls(hits, probe_hits, labels, confidence)
        conditions.append(
            Condition(
                "not worse than a linear probe on the pretrained features",
                counts.verdict != WORSE,
                f"{title} on {len(labels)} test photos: {counts.verdict}; only the model is right on "
                f"{counts.candidate}, only the probe on {counts.baseline} ({counts.test}, "
                f"p = {counts.p_value:.2g})",
            )
        )
    return conditions


def check_probabilities(params: Params, probabilities: Floats, ece: float) -> Condition:
    """Check that the calibration error is not so large that the probabilities mislead."""
    limit = max(CANDIDATE_FROM, error_by_chance(params.evaluate, probabilities))
    return Condition(
        "probabilities that roughly agree with the accuracy",
        ece <= limit,
        f"the calibration error is {ece:.3f}, the limit {limit:.3f}",
    )


def check_unknown(params: Params, classes: Collection[str], known: Mapping[str, float]) -> list[Condition]:
    """Check that the model gives an answer to most test photos, unless it always does.

    Args:
        params: has the share of the validation photos that become unknown, which may be larger.
        classes: names; if `UNKNOWN` is one of them, the service ignores the score.
        known: metrics of the OOD score, see `ml.evaluation.ood.measure_scores`.
    """
    limit = max(MAX_UNKNOWN, params.evaluate.ood_rejected)
    share, low, high = (known[f"refused{end}"] for end in ("", "_low", "_high"))
    condition = Condition(
        f"at most {limit:.0%} of the test photos answered as unknown",
        low <= limit,
        f"the share is {share:.4f} ({low:.4f} to {high:.4f})",
    )
    return [] if UNKNOWN in classes else [condition]


def _measure(score: str, answered: Labels, truth: Labels, confidence: float) -> Interval:
    """Compute the metric `score` of answers [N] to photos of the classes `truth` [N]."""
    counts = np.bincount(truth)
    hits = np.bincount(truth[answered == truth], minlength=len(counts))
    if score == "balanced_accuracy":
        return balanced_accuracy(hits, counts, confidence)
    return wilson(int(hits.sum()), len(truth), confidence)
