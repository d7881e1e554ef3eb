"""Accuracy by kind of photo: breed, where the name of the file tells it, size and brightness."""

import re
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ml import reference
from ml.dataset import Dataset
from ml.metrics import Labels, wilson

MIN_PHOTOS = 20
"""Slices of fewer photos say nothing, and are left out."""
FEWER = f"fewer than {MIN_PHOTOS} photos each"

Slices = dict[str, dict[str, dict[str, float]]]
"""Kind to slice to `photos`, `accuracy`, `accuracy_low` and `accuracy_high`."""

_BREED = re.compile(r"(?:oxford_|dogbreeds_)?([A-Za-z]+(?:_[A-Za-z]+)*)_[0-9]+(?:-[0-9]+)?")
"""As in the Oxford-IIIT Pet collection: Abyssinian_12.jpg, or oxford_Abyssinian_12.jpg."""
_NO_BREEDS = {"img", "dsc", "dscn", "dscf", "pxl", "image", "photo", "picture", "screenshot", "wp", "kaggle"}
"""First words of names that cameras and collections give."""


def breed_of(path: str, classes: tuple[str, ...]) -> str:
    """Return the breed that a photo's name tells, such as `american bulldog`, or an empty string."""
    found = _BREED.fullmatch(path.rpartition("/")[2].rpartition(".")[0])
    words = found[1].split("_") if found else []
    if not words or words[0].lower() in _NO_BREEDS or " ".join(words).lower() in map(str.lower, classes):
        return ""
    return " ".join(words)


def slices(data: Dataset, right: NDArray[np.bool_], confidence: float) -> Slices:
    """Measure each slice of the test split.

    Args:
        data: the prepared photos.
        right: whether the answer to each test photo is right, [N].
        confidence: of the intervals (Wilson).
    """
    rows = data.rows("test")
    found: Slices = {"breed": dict(_breeds(data, rows, right, confidence))}
    values = {
        "short_side_pixels": data.sizes[rows].min(1),
        "brightness": np.array([reference.brightness(data.images[row]) for row in rows]),
    }
    for name, some in values.items():
        found[name] = dict(_ranges(some, reference.BOUNDS[name], right, confidence))
    return found


def _breeds(
    data: Dataset, rows: Labels, right: NDArray[np.bool_], confidence: float
) -> Iterator[tuple[str, dict[str, float]]]:
    names = np.array([breed_of(data.paths[row], data.classes) for row in rows])
    told, counts = np.unique(names[names != ""], return_counts=True)
    for name in told[counts >= MIN_PHOTOS]:
        yield str(name), _measure(right[names == name], confidence)
    rest = right[np.isin(names, told[counts < MIN_PHOTOS])]
    if len(rest) >= MIN_PHOTOS:
        yield FEWER, _measure(rest, confidence)


def _ranges(
    values: NDArray[np.float64], bounds: tuple[float, ...], right: NDArray[np.bool_], confidence: float
) -> Iterator[tuple[str, dict[str, float]]]:
    place = np.searchsorted(bounds, values)  # up to and with a bound, as in `ml.reference`
    for number in range(len(bounds) + 1):
        inside = right[place == number]
        if len(inside) >= MIN_PHOTOS:
            yield _range(bounds, number), _measure(inside, confidence)


def _range(bounds: tuple[float, ...], number: int) -> str:
    if number == 0:
        return f"up to {bounds[0]:g}"
    if number == len(bounds):
        return f"over {bounds[-1]:g}"
    return f"over {bounds[number - 1]:g} to {bounds[number]:g}"


def _measure(right: NDArray[np.bool_], confidence: float) -> dict[str, float]:
    found = wilson(int(right.sum()), len(right), confidence)
    return {
        "photos": len(right),
        "accuracy": found.value,
        "accuracy_low": found.low,
        "accuracy_high": found.high,
    }
