"""Figures of a classifier from its probabilities, with intervals."""

import dataclasses

import numpy as np
from numpy.typing import NDArray
from sklearn.metrics import precision_recall_fscore_support, roc_auc_score

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


def roc_auc(probabilities: Floats, labels: Labels) -> float:
    """Area under the ROC curve; for more than two classes the mean over one against the rest."""
    if probabilities.shape[1] == 2:
        return float(roc_auc_score(labels, probabilities[:, 1]))
    return float(roc_auc_score(labels, probabilities, multi_class="ovr"))


def wilson(right: int, count: int, confidence: float) -> Interval:
    """Interval of a share (Wilson 1927), which stays inside 0..1 near its ends."""
    from scipy.stats import norm

    z = float(norm.ppf(0.5 + confidence / 2))
    share = right / count
    centre = (share + z * z / (2 * count)) / (1 + z * z / count)
    half = z / (1 + z * z / count) * np.sqrt(share * (1 - share) / count + z * z / (4 * count * count))
    return Interval(share, float(centre - half), float(centre + half))


def bootstrap_log_loss(probabilities: Floats, labels: Labels, resamples: int, confidence: float) -> Interval:
    """Log loss with its percentile bootstrap interval."""
    losses = -np.log(np.clip(probabilities[np.arange(len(labels)), labels], 1e-15, 1))
    draws = np.random.default_rng(0).integers(0, len(losses), (resamples, len(losses)))
    means = losses[draws].mean(1)
    low, high = np.quantile(means, [0.5 - confidence / 2, 0.5 + confidence / 2])
    return Interval(float(losses.mean()), float(low), float(high))


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
    right = int((predicted == labels).sum())
    result = {"photos": float(len(labels))}
    for name, interval in (
        ("accuracy", wilson(right, len(labels), confidence)),
        ("log_loss", bootstrap_log_loss(probabilities, labels, resamples, confidence)),
    ):
        result |= {name: interval.value, f"{name}_low": interval.low, f"{name}_high": interval.high}
    counts = np.bincount(labels, minlength=len(classes))
    if counts.all():
        result["roc_auc"] = roc_auc(probabilities, labels)
    result["ece"] = expected_calibration_error(probabilities, labels, bins)
    precision, recall, _, _ = precision_recall_fscore_support(
        labels, predicted, labels=range(len(classes)), zero_division=0.0
    )
    for number, name in enumerate(classes):
        result[f"precision_{name}"] = float(precision[number])
        if counts[number]:
            result[f"recall_{name}"] = float(recall[number])
    return result
