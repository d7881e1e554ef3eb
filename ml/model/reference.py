"""Training reference statistics: distributions of photos and answers, which the service compares for drift.

Training and serving share this module, because both must measure in the same way. It needs NumPy only.
"""

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import ArrayLike, NDArray

COMPONENTS = 4
"""Most principal components of the network's features that a model gives out and the service counts."""

# The deciles of a normal distribution. Components are in standard deviations of the training photos, so one
# set of bounds suits every model, and histograms of several instances can be added.
_DECILES = (-1.28, -0.84, -0.52, -0.25, 0.0, 0.25, 0.52, 0.84, 1.28)

BOUNDS: Mapping[str, tuple[float, ...]] = {
    "brightness": (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9),
    "aspect_ratio": (0.5, 0.65, 0.8, 0.95, 1.05, 1.25, 1.45, 1.9),
    "short_side_pixels": (32.0, 64.0, 112.0, 224.0, 448.0, 1024.0, 2048.0, 4096.0),
    "confidence": (0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.98, 0.99, 0.999),
    # Half of the photos of the classes score above 0.99, one in a hundred below 0.5: see `ml.model.ood`.
    "known": (0.1, 0.5, 0.8, 0.9, 0.95, 0.98, 0.99, 0.995, 0.998),
    **{f"component_{number}": _DECILES for number in range(1, COMPONENTS + 1)},
}
"""Upper bounds of each statistic's histogram; a bin without upper bound follows."""

_STEP = 4  # every fourth pixel in both directions gives the brightness to 0.01, in a tenth of the time


def brightness(pixels: NDArray[np.uint8]) -> float:
    """Return the mean of a photo's channels, 0 (black) to 1 (white), from its pixels [size, size, 3]."""
    return float(pixels[::_STEP, ::_STEP].mean()) / 255


def describe(
    classes: Sequence[str],
    values: Mapping[str, ArrayLike],
    confidences: ArrayLike,
    answers: ArrayLike,
) -> dict[str, dict[str, float]]:
    """Return the statistics that `model.pt` holds, as plain values.

    Args:
        classes: names of the classes.
        values: of the other statistics in `BOUNDS`, by name: of training photos if they describe the photo
            (`brightness`, `aspect_ratio`, `short_side_pixels`), and of photos that were not used for training
            if the network gives them.
        confidences: probabilities of the likeliest classes, on photos that were not used for training.
        answers: the likeliest classes, as indices of `classes`.

    Returns:
        Under `labels`, the share of each class among the answers. Under each key of `BOUNDS`, the share of
        photos up to each bound.
    """
    counts = np.bincount(np.asarray(answers, np.int64), minlength=len(classes))
    shares = {
        "labels": {
            name: round(float(count / counts.sum()), 6) for name, count in zip(classes, counts, strict=True)
        }
    }
    for name, numbers in {**values, "confidence": confidences}.items():
        ordered = np.sort(np.asarray(numbers, np.float64))
        up_to = np.searchsorted(ordered, BOUNDS[name], side="right") / len(ordered)
        shares[name] = {
            str(bound): round(float(share), 6) for bound, share in zip(BOUNDS[name], up_to, strict=True)
        }
    return shares
