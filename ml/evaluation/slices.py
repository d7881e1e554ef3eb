"""Accuracy and mean confidence of test photos by collection, breed, size and brightness.

The file names give the collection and the breed. In a calibrated slice, the two numbers are close.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ml.data.dataset import Dataset
from ml.data.licences import collection_of
from ml.evaluation.metrics import Floats, wilson
from ml.model import reference

MIN_PHOTOS = 20
"""Smaller slices show nothing, and are left out."""
FEWER = f"fewer than {MIN_PHOTOS} photos each"

Slices = dict[str, dict[str, dict[str, float]]]
"""Kind to slice to `photos`, `accuracy`, `accuracy_low`, `accuracy_high` and `confidence`."""

_BREED = re.compile(r"(?:oxford_|dogbreeds_)?([A-Za-z]+(?:_[A-Za-z]+)*)_[0-9]+(?:-[0-9]+)?")
"""As in the Oxford-IIIT Pet collection: Abyssinian_12.jpg, or oxford_Abyssinian_12.jpg."""
_NO_BREEDS = {"img", "dsc", "dscn", "dscf", "pxl", "image", "photo", "picture", "screenshot", "wp", "kaggle"}
"""First words of file names that cameras and collections use."""


def breed_of(path: str, classes: tuple[str, ...]) -> str:
    """Return the breed in a photo's file name, such as `american bulldog`, or an empty string."""
    match = _BREED.fullmatch(path.rpartition("/")[2].rpartition(".")[0])
    words = match[1].split("_") if match else []
    if not words or words[0].lower() in _NO_BREEDS or " ".join(words).lower() in map(str.lower, classes):
        return ""
    return " ".join(words)


def slice_metrics(data: Dataset, probabilities: Floats, confidence: float) -> Slices:
    """Measure each slice of the test split.

    Args:
        data: the prepared photos.
        probabilities: answers to the test photos, [N, classes].
        confidence: confidence of the intervals (Wilson).
    """
    rows = data.rows("test")
    hits = probabilities.argmax(1) == data.labels[rows]
    outcomes = _Outcomes(hits, probabilities.max(1), confidence)
    paths = [data.paths[row] for row in rows]
    slices: Slices = {
        "collection": dict(_by_name([collection_of(path) for path in paths], outcomes)),
        "breed": dict(_by_name([breed_of(path, data.classes) for path in paths], outcomes)),
    }
    values = {
        "short_side_pixels": data.sizes[rows].min(1),
        "brightness": np.array([reference.brightness(data.images[row]) for row in rows]),
    }
    for kind, per_photo in values.items():
        slices[kind] = dict(_by_range(per_photo, reference.BOUNDS[kind], outcomes))
    return slices


@dataclasses.dataclass(frozen=True)
class _Outcomes:
    """Whether each answer is right, and its confidence, both [N]; `level` is that of the intervals."""

    hits: NDArray[np.bool_]
    confidences: Floats
    level: float

    def measure(self, selected: NDArray[np.bool_]) -> dict[str, float]:
        """Return the metrics of the selected photos, [N]."""
        accuracy = wilson(int(self.hits[selected].sum()), int(selected.sum()), self.level)
        return {
            "photos": int(selected.sum()),
            **accuracy.named("accuracy"),
            "confidence": float(self.confidences[selected].mean()),
        }


def _by_name(names: Sequence[str], outcomes: _Outcomes) -> Iterator[tuple[str, dict[str, float]]]:
    per_photo = np.array(names)
    unique, counts = np.unique(per_photo[per_photo != ""], return_counts=True)
    for name in unique[counts >= MIN_PHOTOS]:
        yield str(name), outcomes.measure(per_photo == name)
    rest = np.isin(per_photo, unique[counts < MIN_PHOTOS])
    if rest.sum() >= MIN_PHOTOS:
        yield FEWER, outcomes.measure(rest)


def _by_range(
    values: NDArray[np.float64], bounds: tuple[float, ...], outcomes: _Outcomes
) -> Iterator[tuple[str, dict[str, float]]]:
    numbers = np.searchsorted(
        bounds, values
    )  # a bound belongs to the range below, as in `ml.model.reference`
    for number in range(len(bounds) + 1):
        inside = numbers == number
        if inside.sum() >= MIN_PHOTOS:
            yield _range_name(bounds, number), outcomes.measure(inside)


def _range_name(bounds: tuple[float, ...], number: int) -> str:
    if number == 0:
        return f"up to {bounds[0]:g}"
    if number == len(bounds):
        return f"over {bounds[-1]:g}"
    return f"over {bounds[number - 1]:g} to {bounds[number]:g}"
