"""Accuracy by kind of photo: collection and breed, where the file's name tells them, size and brightness.

And the mean confidence beside it: the two are alike where the probabilities are calibrated for that kind too.
"""

import dataclasses
import re
from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from ml import reference
from ml.dataset import Dataset
from ml.licences import collection_of
from ml.metrics import Floats, wilson

MIN_PHOTOS = 20
"""Slices of fewer photos say nothing, and are left out."""
FEWER = f"fewer than {MIN_PHOTOS} photos each"

Slices = dict[str, dict[str, dict[str, float]]]
"""Kind to slice to `photos`, `accuracy`, `accuracy_low`, `accuracy_high` and `confidence`."""

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


def slices(data: Dataset, probabilities: Floats, confidence: float) -> Slices:
    """Measure each slice of the test split.

    Args:
        data: the prepared photos.
        probabilities: of the test photos, [N, classes].
        confidence: of the intervals (Wilson).
    """
    rows = data.rows("test")
    answers = Answers(probabilities.argmax(1) == data.labels[rows], probabilities.max(1), confidence)
    paths = [data.paths[row] for row in rows]
    found: Slices = {
        "collection": dict(_named([collection_of(path) for path in paths], answers)),
        "breed": dict(_named([breed_of(path, data.classes) for path in paths], answers)),
    }
    values = {
        "short_side_pixels": data.sizes[rows].min(1),
        "brightness": np.array([reference.brightness(data.images[row]) for row in rows]),
    }
    for name, some in values.items():
        found[name] = dict(_ranges(some, reference.BOUNDS[name], answers))
    return found


def _named(names: Sequence[str], answers: "Answers") -> Iterator[tuple[str, dict[str, float]]]:
    named = np.array(names)
    told, counts = np.unique(named[named != ""], return_counts=True)
    for name in told[counts >= MIN_PHOTOS]:
        yield str(name), answers.measure(named == name)
    rest = np.isin(named, told[counts < MIN_PHOTOS])
    if rest.sum() >= MIN_PHOTOS:
        yield FEWER, answers.measure(rest)


def _ranges(
    values: NDArray[np.float64], bounds: tuple[float, ...], answers: "Answers"
) -> Iterator[tuple[str, dict[str, float]]]:
    place = np.searchsorted(bounds, values)  # up to and with a bound, as in `ml.reference`
    for number in range(len(bounds) + 1):
        inside = place == number
        if inside.sum() >= MIN_PHOTOS:
            yield _range(bounds, number), answers.measure(inside)


def _range(bounds: tuple[float, ...], number: int) -> str:
    if number == 0:
        return f"up to {bounds[0]:g}"
    if number == len(bounds):
        return f"over {bounds[-1]:g}"
    return f"over {bounds[number - 1]:g} to {bounds[number]:g}"


@dataclasses.dataclass(frozen=True)
class Answers:
    """Answers to photos: whether each is right and how sure it is, both [N]; `level` is the intervals'."""

    right: NDArray[np.bool_]
    sure: Floats
    level: float

    def measure(self, which: NDArray[np.bool_]) -> dict[str, float]:
        """Return the figures of some of them, [N]."""
        found = wilson(int(self.right[which].sum()), int(which.sum()), self.level)
        return {
            "photos": int(which.sum()),
            "accuracy": found.value,
            "accuracy_low": found.low,
            "accuracy_high": found.high,
            "confidence": float(self.sure[which].mean()),
        }
