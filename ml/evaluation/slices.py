"""Accuracy and mean confidence of test photos by collection, file name, size and brightness.

The file names give the collection, and perhaps more, such as the breed. In a calibrated slice, the two
numbers are close.
"""

import itertools
import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from ml.data.dataset import Dataset
from ml.data.licences import collection_of
from ml.evaluation.metrics import Floats, by_name, wilson
from ml.model import reference

MIN_PHOTOS = 20
"""Smaller slices show nothing, and are left out."""
FEWER = f"fewer than {MIN_PHOTOS} photos each"

Slices = dict[str, dict[str, dict[str, float]]]
"""Kind to slice to `photos`, `accuracy`, `accuracy_low`, `accuracy_high` and `confidence`."""

Group = NDArray[np.bool_]
"""Whether each test photo belongs to the group, [N]."""

_WORDS = re.compile(r"(?:oxford_|dogbreeds_)?([A-Za-z]+(?:_[A-Za-z]+)*)_[0-9]+(?:-[0-9]+)?")
"""As in the Oxford-IIIT Pet collection: Abyssinian_12.jpg, or oxford_Abyssinian_12.jpg."""
_NO_WORDS = {"img", "dsc", "dscn", "dscf", "pxl", "image", "photo", "picture", "screenshot", "wp", "kaggle"}
"""First words of file names that cameras and collections use."""


def words_of(path: str, classes: tuple[str, ...]) -> str:
    """Return the words before the number in a file's name, such as `american bulldog`, or an empty string."""
    match = _WORDS.fullmatch(path.rpartition("/")[2].rpartition(".")[0])
    words = match[1].split("_") if match else []
    if not words or words[0].lower() in _NO_WORDS or " ".join(words).lower() in map(str.lower, classes):
        return ""
    return " ".join(words)


def slice_metrics(data: Dataset, probabilities: Floats, confidence: float) -> Slices:
    """Measure each slice of the test photos from the answers to them, [N, classes].

    `confidence` is that of the intervals (Wilson).
    """
    rows = data.rows("test")
    paths = [data.paths[row] for row in rows]
    brightness = np.array([reference.brightness(data.images[row]) for row in rows])
    groups = {
        "collection": _groups_by_name([collection_of(path) for path in paths]),
        "file_name": _groups_by_name([words_of(path, data.classes) for path in paths]),
        "short_side_pixels": _groups_by_range(data.sizes[rows].min(1), "short_side_pixels"),
        "brightness": _groups_by_range(brightness, "brightness"),
    }
    hits, confidences = probabilities.argmax(1) == data.labels[rows], probabilities.max(1)

    def measure(selected: Group) -> dict[str, float]:
        count = int(selected.sum())
        accuracy = {"accuracy": wilson(int(hits[selected].sum()), count, confidence)}
        return {"photos": count, **by_name(accuracy), "confidence": float(confidences[selected].mean())}

    large = {
        kind: {name: group for name, group in named.items() if group.sum() >= MIN_PHOTOS}
        for kind, named in groups.items()
    }
    return {  # a kind with one slice, such as all photos from one camera, shows nothing
        kind: {name: measure(group) for name, group in named.items() if len(named) > 1}
        for kind, named in large.items()
    }


def _groups_by_name(names: Sequence[str]) -> dict[str, Group]:
    """Group photos by name; the small groups together are one more group."""
    per_photo = np.array(names)
    unique, counts = np.unique(per_photo[per_photo != ""], return_counts=True)
    groups = {str(name): per_photo == name for name in unique[counts >= MIN_PHOTOS]}
    return groups | {FEWER: np.isin(per_photo, unique[counts < MIN_PHOTOS])}


def _groups_by_range(values: NDArray[np.float64], statistic: str) -> dict[str, Group]:
    bounds = reference.BOUNDS[statistic]
    numbers = np.searchsorted(bounds, values)  # a bound belongs to the range below, as in `reference`
    middle = [f"over {low:g} to {high:g}" for low, high in itertools.pairwise(bounds)]
    names = [f"up to {bounds[0]:g}", *middle, f"over {bounds[-1]:g}"]
    return {name: numbers == number for number, name in enumerate(names)}
