"""Figures of a classifier from its probabilities, with intervals."""

import dataclasses

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import confusion_matrix

Floats = NDArray[np.float64]
Labels = NDArray[np.int64]


@dataclasses.dataclass(frozen=True)
class Interval:
    """A figure with the interval in which it lies with the stated confidence."""

    value: float
    low: float
    high: float


def softmax(logits: Floats, temperature: float = 1.0) -> Floats:
    """Logits [N, classes] to probabilities [N, classes]."""
    scaled = logits / temperature
    powers = np.exp(scaled - scaled.max(1, keepdims=True))
    return np.asarray(powers / powers.sum(1, keepdims=True), np.float64)


def fit_temperature(logits: Floats, labels: Labels) -> float:
    """Find the temperature with the least log loss (Guo et al. 2017, "On calibration of modern networks").

    Against smoothed targets (Platt 1999): of n photos of a class, n + 1 of n + classes. Where the split
    holds no mistake the plain log loss would fall for ever with the temperature, and the first mistake
    afterwards would be made with certainty.
    """
    from scipy.optimize import minimize_scalar
    from scipy.special import logsumexp

    count, classes = logits.shape
    size = np.bincount(labels, minlength=classes)[labels]
    targets = np.repeat(1 / (size + classes), classes).reshape(count, classes)
    targets[np.arange(count), labels] = (size + 1) / (size + classes)

    def loss(log_temperature: float) -> float:
        scaled = logits / np.exp(log_temperature)
        log_chances = scaled - logsumexp(scaled, axis=1, keepdims=True)
        return float(-(targets * log_chances).sum(1).mean())

    return float(np.exp(minimize_scalar(loss, bounds=(np.log(0.1), np.log(10.0)), method="bounded").x))


def expected_calibration_error(probabilities: Floats, labels: Labels, bins: int) -> float:
    """Mean distance between confidence and accuracy over bins of equal width, weighted by their photos."""
    confidence = probabilities.max(1)
    right = probabilities.argmax(1) == labels
    number = np.minimum((confidence * bins).astype(int), bins - 1)
    gaps = [
        abs(right[number == b].mean() - confidence[number == b].mean()) * (number == b).mean()
        for b in np.unique(number)
    ]
    return float(sum(gaps))


def bootstrap_calibration_error(
    probabilities: Floats, labels: Labels, bins: int, resamples: int, confidence: float
) -> Interval:
    """Calibration error with its percentile bootstrap interval, widened to hold the value itself.

    Drawing anew adds noise to each bin's gap, so that most draws have a larger error than the photos have.
    """
    confidences = probabilities.max(1)
    gaps = (probabilities.argmax(1) == labels) - confidences
    number = np.minimum((confidences * bins).astype(int), bins - 1)
    count, random = len(labels), np.random.default_rng(0)
    errors = np.empty(resamples)
    for draw in range(resamples):
        rows = random.integers(0, count, count)
        errors[draw] = np.abs(np.bincount(number[rows], gaps[rows], bins)).sum() / count
    value = expected_calibration_error(probabilities, labels, bins)
    low, high = np.quantile(errors, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(value, min(value, float(low)), max(value, float(high)))


def auroc(scores: Floats, positive: NDArray[np.bool_], confidence: float) -> Interval:
    """Area under the ROC curve of scores [N] with its interval (DeLong et al. 1988)."""
    return _area([scores], [positive], confidence)


def roc_auc(probabilities: Floats, labels: Labels, confidence: float) -> Interval:
    """Area under the ROC curve; for more than two classes the mean over one against the rest."""
    classes = probabilities.shape[1]
    columns = [1] if classes == 2 else range(classes)
    return _area([probabilities[:, c] for c in columns], [labels == c for c in columns], confidence)


def _area(scores: list[Floats], positives: list[NDArray[np.bool_]], confidence: float) -> Interval:
    """Mean area of several curves over the same photos; what each photo adds to it tells its variance."""
    from scipy.stats import norm, rankdata

    areas, influence = [], np.zeros(len(scores[0]))
    for some, positive in zip(scores, positives, strict=True):
        ranks = rankdata(some)
        place = np.empty(len(some))  # share of the other kind's photos that it is on the right side of
        for kind, sign in ((positive, 1), (~positive, -1)):
            within = rankdata(sign * some[kind])
            all_ranks = ranks[kind] if sign == 1 else len(some) + 1 - ranks[kind]
            place[kind] = (all_ranks - within) / (~kind).sum()
        area = float(place[positive].mean())
        areas.append(area)
        for kind in (positive, ~positive):
            influence[kind] += (place[kind] - area) / kind.sum() / len(scores)
    value = float(np.mean(areas))
    half = float(norm.ppf(0.5 + confidence / 2) * np.sqrt((influence**2).sum()))
    return Interval(value, max(0.0, value - half), min(1.0, value + half))


def wilson(right: int, count: int, confidence: float) -> Interval:
    """Interval of a share (Wilson 1927), which stays inside 0..1 near its ends."""
    from scipy.stats import norm

    z = float(norm.ppf(0.5 + confidence / 2))
    share = right / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Interval(share, max(0.0, float(centre - half)), min(1.0, float(centre + half)))


def log_losses(probabilities: Floats, labels: Labels) -> Floats:
    """Log loss of each photo, [N], from probabilities [N, classes]."""
    return np.asarray(-np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-15, 1)), np.float64)


def resampled(values: Floats, resamples: int, confidence: float) -> Interval:
    """Mean of values [N] with its percentile bootstrap interval; the same values give the same interval."""
    random = np.random.default_rng(0)
    # A few at a time: all draws at once would take gigabytes for a large split.
    few = max(1, 10_000_000 // len(values))
    means = np.concatenate(
        [
            values[random.integers(0, len(values), (min(few, resamples - start), len(values)))].mean(1)
            for start in range(0, resamples, few)
        ]
    )
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(float(values.mean()), float(low), float(high))


def bootstrap_log_loss(probabilities: Floats, labels: Labels, resamples: int, confidence: float) -> Interval:
    """Log loss with its percentile bootstrap interval."""
    return resampled(log_losses(probabilities, labels), resamples, confidence)


def figures(
    probabilities: Floats,
    labels: Labels,
    classes: tuple[str, ...],
    bins: int,
    resamples: int,
    confidence: float,
) -> dict[str, float]:
    """All figures of one split, by name.

    Args:
        probabilities: [N, classes].
        labels: [N].
        classes: names, in the order of the columns.
        bins: of the calibration error.
        resamples: of the bootstrap.
        confidence: of the intervals, whose ends are `..._low` and `..._high`.

    Returns:
        The figures; without a class's recall, and without `roc_auc`, where that class has no photo.
    """
    predicted = probabilities.argmax(1)
    table = confusion_matrix(labels, predicted, labels=range(len(classes)))
    right, given, said = table.diagonal(), table.sum(1), table.sum(0)
    found = {
        "accuracy": wilson(int(right.sum()), len(labels), confidence),
        "log_loss": bootstrap_log_loss(probabilities, labels, resamples, confidence),
    }
    if given.all():
        found["roc_auc"] = roc_auc(probabilities, labels, confidence)
    found["ece"] = bootstrap_calibration_error(probabilities, labels, bins, resamples, confidence)
    for number, name in enumerate(classes):
        never = Interval(0.0, 0.0, 1.0)
        precise = wilson(int(right[number]), int(said[number]), confidence) if said[number] else never
        found[f"precision_{name}"] = precise
        if given[number]:
            found[f"recall_{name}"] = wilson(int(right[number]), int(given[number]), confidence)
    result = {"photos": float(len(labels))}
    for name, interval in found.items():
        result |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    return result
