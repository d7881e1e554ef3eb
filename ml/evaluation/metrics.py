"""Metrics of a classifier from its probabilities, with confidence intervals."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]
Comparison = dict[str, dict[str, float]]
"""OOD detection method to metrics: `refused`, the share of test photos that are classified as unknown, and,
if there are OOD photos, `refused_others`, the share of them that are, and `auroc`. The ends of their
intervals are `..._low` and `..._high`."""

_FOLDS = 5


@dataclasses.dataclass(frozen=True)
class Interval:
    """A metric with its confidence interval."""

    value: float
    low: float
    high: float


def by_name(intervals: Mapping[str, Interval]) -> dict[str, float]:
    """Return the value and both ends of each interval as `NAME`, `NAME_low` and `NAME_high`.

    An end whose name is that of another value is left out: there may be classes called cat and cat_low.
    """
    metrics: dict[str, float] = {}
    for name, interval in intervals.items():
        ends = {f"{name}_low": interval.low, f"{name}_high": interval.high}
        metrics[name] = interval.value
        metrics |= {end: value for end, value in ends.items() if end not in intervals}
    return metrics


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Turn logits [N, classes] into probabilities [N, classes]."""
    scaled = logits / temperature
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True), np.float64)


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """Find the temperature with the lowest log loss (Guo et al. 2017, "On calibration of modern networks").

    If the model makes no mistake on the split, the plain log loss keeps falling as the temperature goes to 0,
    so a plain fit would be overconfident. Therefore the targets allow for half a mistake in N photos: the
    true class gets (N + 1/2) / (N + 1) (Jeffreys' prior), and the other classes share the rest as the model
    does. The result is 1 if the fit doesn't lower the loss of photos that it has not seen (cross-validation).
    """
    count = len(labels)
    is_true = np.zeros(logits.shape, bool)
    is_true[np.arange(count), labels] = True
    targets = softmax(np.where(is_true, -np.inf, logits)) / (2 * count + 2)
    targets[is_true] = (2 * count + 1) / (2 * count + 2)
    folds = np.random.default_rng(0).permutation(count) % min(_FOLDS, count)
    fitted = plain = 0.0
    for fold in range(folds.max() + 1 if count > 1 else 0):
        unseen = folds == fold
        temperature = _fit(logits[~unseen], targets[~unseen])
        fitted += _smoothed_loss(logits[unseen], targets[unseen], temperature)
        plain += _smoothed_loss(logits[unseen], targets[unseen], 1.0)
    return _fit(logits, targets) if fitted < plain else 1.0


def _fit(logits: Floats, targets: Floats) -> float:
    from scipy.optimize import minimize_scalar

    best = minimize_scalar(
        lambda log: _smoothed_loss(logits, targets, np.exp(log)), bounds=np.log((0.1, 10.0)), method="bounded"
    )
    return float(np.exp(best.x))


def _smoothed_loss(logits: Floats, targets: Floats, temperature: float) -> float:
    """Compute the sum of the log losses to targets [N, classes]."""
    from scipy.special import log_softmax

    return float(-(targets * log_softmax(logits / temperature, axis=1)).sum())


def bin_numbers(confidences: Floats, bins: int) -> NDArray[np.int64]:
    """Return which of `bins` bins of equal width each confidence [N], from 0 to 1, falls into."""
    return np.minimum((confidences * bins).astype(np.int64), bins - 1)


def calibration_error(probabilities: Floats, labels: Labels, bins: int) -> float:
    """Compute the expected calibration error.

    It is the average gap between confidence and accuracy in bins of equal width, weighted by photos.
    """
    confidences = probabilities.max(1)
    number = bin_numbers(confidences, bins)
    gaps = (probabilities.argmax(1) == labels) - confidences
    return float(np.abs(np.bincount(number, gaps, bins)).sum() / len(labels))


def bootstrap_calibration_error(
    probabilities: Floats, labels: Labels, bins: int, resamples: int, confidence: float
) -> Interval:
    """Compute the expected calibration error and its percentile bootstrap interval.

    Resampling adds noise to each gap, so the error of most resamples is larger than the value; the interval
    contains the value all the same.
    """
    hits, confidences = probabilities.argmax(1) == labels, probabilities.max(1)
    number = bin_numbers(confidences, bins)
    value = calibration_error(probabilities, labels, bins)
    gaps = hits - confidences
    count, random = len(labels), np.random.default_rng(0)
    errors = np.empty(resamples)
    for draw in range(resamples):
        rows = random.integers(0, count, count)
        errors[draw] = np.abs(np.bincount(number[rows], gaps[rows], bins)).sum() / count
    low, high = np.quantile(errors, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(value, min(value, float(low)), max(value, float(high)))


def auroc(scores: Floats, positive: NDArray[np.bool_], confidence: float) -> Interval:
    """Compute the area under the ROC curve of scores [N] and its interval (DeLong et al. 1988)."""
    return _area([scores], [positive], confidence)


def roc_auc(probabilities: Floats, labels: Labels, confidence: float) -> Interval:
    """Compute the area under the ROC curve; with more than two classes, the mean over one-versus-rest."""
    classes = probabilities.shape[1]
    columns = [1] if classes == 2 else range(classes)
    return _area([probabilities[:, c] for c in columns], [labels == c for c in columns], confidence)


def _area(scores: list[Floats], positives: list[NDArray[np.bool_]], confidence: float) -> Interval:
    """Compute the mean area of several curves; the influence of each photo gives the variance."""
    from scipy.stats import norm, rankdata

    areas, influence = [], np.zeros(len(scores[0]))
    for curve, positive in zip(scores, positives, strict=True):
        ranks = rankdata(curve)
        place = np.empty(len(curve))  # share of the other kind's photos that are on the correct side of it
        for kind, sign in ((positive, 1), (~positive, -1)):
            within = rankdata(sign * curve[kind])
            all_ranks = ranks[kind] if sign == 1 else len(curve) + 1 - ranks[kind]
            place[kind] = (all_ranks - within) / (~kind).sum()
        area = float(place[positive].mean())
        areas.append(area)
        for kind in (positive, ~positive):
            # Squared and summed, this is the variance of the kind's places divided by their number.
            scale = np.sqrt(kind.sum() * max(kind.sum() - 1, 1))
            influence[kind] += (place[kind] - area) / scale / len(scores)
    value = float(np.mean(areas))
    half = float(norm.ppf(0.5 + confidence / 2) * np.sqrt((influence**2).sum()))
    return Interval(value, max(0.0, value - half), min(1.0, value + half))


def wilson(hits: int, count: int, confidence: float) -> Interval:
    """Compute a share and its interval (Wilson 1927), which stays inside 0..1."""
    from scipy.stats import norm

    z = float(norm.ppf(0.5 + confidence / 2))
    share = hits / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Interval(share, max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def balanced_accuracy(hits: Labels, counts: Labels, confidence: float) -> Interval:
    """Compute the mean recall of the classes that have photos, and its interval.

    The interval combines the Wilson intervals of the recalls (Zou and Donner 2008, "MOVER"), so that a class
    with few photos makes it wide even if all of them are right.

    Args:
        hits: number of right answers of each class, [classes].
        counts: number of photos of each class, [classes].
        confidence: of the interval.
    """
    recalls = [
        wilson(int(hit), int(count), confidence) for hit, count in zip(hits, counts, strict=True) if count
    ]
    value, low, high = (np.array([getattr(one, end) for one in recalls]) for end in ("value", "low", "high"))
    mean, classes = float(value.mean()), len(recalls)
    below, above = (float(np.sqrt(((value - end) ** 2).sum())) / classes for end in (low, high))
    return Interval(mean, max(0.0, mean - below), min(1.0, mean + above))


def log_losses(probabilities: Floats, labels: Labels) -> Floats:
    """Compute the log loss of each photo, [N], from probabilities [N, classes]."""
    return np.asarray(-np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-15, 1)), np.float64)


def bootstrap_mean(values: Floats, resamples: int, confidence: float) -> Interval:
    """Compute the mean of values [N] and its percentile bootstrap interval; the random seed is fixed."""
    random = np.random.default_rng(0)
    # All resamples at once would need gigabytes for a large split.
    batch = max(1, 10_000_000 // len(values))
    means = np.concatenate(
        [
            values[random.integers(0, len(values), (min(batch, resamples - first), len(values)))].mean(1)
            for first in range(0, resamples, batch)
        ]
    )
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(float(values.mean()), float(low), float(high))


def classification_metrics(
    probabilities: Floats,
    labels: Labels,
    classes: tuple[str, ...],
    bins: int,
    resamples: int,
    confidence: float,
) -> dict[str, float]:
    """Compute all metrics of one split, by name.

    Args:
        probabilities: [N, classes].
        labels: [N].
        classes: names, in the order of the columns.
        bins: number of bins of the calibration error.
        resamples: number of bootstrap resamples.
        confidence: confidence of the intervals, whose ends are `..._low` and `..._high`.

    Returns:
        `photos`, `accuracy`, `balanced_accuracy` (the mean recall of the classes), `log_loss`, `roc_auc`,
        `ece`, and `precision_CLASS` and `recall_CLASS` for each class. If a class has no photos, its recall
        and `roc_auc` are left out.
    """
    predicted = probabilities.argmax(1)
    hits, actual_counts, predicted_counts = (
        np.bincount(numbers, minlength=len(classes))
        for numbers in (labels[predicted == labels], labels, predicted)
    )
    intervals = {
        "accuracy": wilson(int(hits.sum()), len(labels), confidence),
        "balanced_accuracy": balanced_accuracy(hits, actual_counts, confidence),
        "log_loss": bootstrap_mean(log_losses(probabilities, labels), resamples, confidence),
    }
    if actual_counts.all():
        intervals["roc_auc"] = roc_auc(probabilities, labels, confidence)
    intervals["ece"] = bootstrap_calibration_error(probabilities, labels, bins, resamples, confidence)
    for hit, actual, answered, name in zip(hits, actual_counts, predicted_counts, classes, strict=True):
        intervals[f"precision_{name}"] = (
            wilson(int(hit), int(answered), confidence) if answered else Interval(0.0, 0.0, 1.0)
        )
        if actual:
            intervals[f"recall_{name}"] = wilson(int(hit), int(actual), confidence)
    return {"photos": float(len(labels))} | by_name(intervals)
