"""Simple methods that a trained network must not be worse than: the most frequent class, and a linear probe.

If the test split has too few photos to measure anything, the probe is also cross-validated on all photos.
That takes seconds, and shows how well the features that the network starts from separate the classes.
"""

import dataclasses
from typing import Self

import numpy as np

from ml.data.dataset import Dataset
from ml.evaluation.metrics import Floats, Labels
from ml.paths import REPORT

MIN_TEST_PHOTOS, MIN_TEST_PHOTOS_PER_CLASS = 100, 5
"""With fewer test photos, the test split measures too little, and the probe is cross-validated."""
_FILE = REPORT / "probe.npz"


@dataclasses.dataclass(frozen=True)
class Probe:
    """The answers of the linear probe, which `ml.evaluation.probe` fits.

    Attributes:
        test: to the test photos, probabilities [N, classes].
        crossed: to photos of all splits, each by a probe that has not seen it, [M, classes]; empty: the test
            split has enough photos.
        crossed_labels: the true classes of these photos, [M].
    """

    test: Floats
    crossed: Floats
    crossed_labels: Labels

    def write(self) -> None:
        """Write probe.npz, for packaging."""
        np.savez_compressed(_FILE, **dataclasses.asdict(self))

    @classmethod
    def read(cls) -> Self | None:
        """Read probe.npz; None if the network has no pretrained body."""
        if not _FILE.is_file():
            return None
        with np.load(_FILE) as arrays:
            return cls(*(arrays[field.name] for field in dataclasses.fields(cls)))

    @staticmethod
    def remove() -> None:
        """Remove what an evaluation of another architecture left."""
        _FILE.unlink(missing_ok=True)


def answer_majority(data: Dataset) -> Floats:
    """Answer every test photo with the shares of the classes in the training photos, [N, classes]."""
    shares = np.bincount(data.labels[data.rows("train")], minlength=len(data.classes)) + 1.0
    return np.tile(shares / shares.sum(), (len(data.rows("test")), 1))


def has_few_test_photos(data: Dataset) -> bool:
    """Return whether the test split has too few photos, of all classes or of one, to measure anything."""
    counts = np.bincount(data.labels[data.rows("test")], minlength=len(data.classes))
    return bool(counts.sum() < MIN_TEST_PHOTOS or counts.min() < MIN_TEST_PHOTOS_PER_CLASS)
