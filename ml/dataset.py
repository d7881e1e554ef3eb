"""The prepared photos on disk: written by prepare, read by the stages after it."""

import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from ml.errors import PipelineError

FOLDER = Path("data/processed")
IMAGES = "images.npy"
SPLITS = "splits.json"

Split = Literal["train", "val", "test"]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """Photos, row by row.

    Attributes:
        classes: class names; a label is a position in it.
        image_size: height and width of each photo, in pixels.
        resize: how a photo became a square, see `ml.image.decode`.
        images: uint8 [N, image_size, image_size, 3] RGB, mapped from disk.
        labels: int64 [N].
        splits: `train`, `val` or `test`, [N].
        paths: class/file of each photo.
        hashes: SHA-256 of each photo's file, in hexadecimal.
        sizes: int64 [N, 2], width and height of each whole photo, upright, in pixels.
    """

    classes: tuple[str, ...]
    image_size: int
    resize: Literal["center_crop", "squash"]
    images: NDArray[np.uint8]
    labels: NDArray[np.int64]
    splits: NDArray[np.str_]
    paths: list[str]
    hashes: list[str]
    sizes: NDArray[np.int64]

    @classmethod
    def load(cls, folder: Path = FOLDER) -> Self:
        """Open what prepare wrote; photos are read when they are used.

        Raises:
            PipelineError: a file is missing, or the two don't belong together.
        """
        try:
            index = json.loads((folder / SPLITS).read_text("utf-8"))
            images = np.load(folder / IMAGES, mmap_mode="r")
            photos, size = index["photos"], index["image_size"]
            if images.shape != (len(photos), size, size, 3) or images.dtype != np.uint8:
                raise PipelineError(f"{folder}: {IMAGES} and {SPLITS} don't belong together")
            return cls(
                classes=tuple(index["classes"]),
                image_size=size,
                resize=index["resize"],
                images=images,
                labels=np.array([photo["label"] for photo in photos], np.int64),
                splits=np.array([photo["split"] for photo in photos], np.str_),
                paths=[photo["path"] for photo in photos],
                hashes=[photo["sha256"] for photo in photos],
                sizes=np.array([photo["size"] for photo in photos], np.int64).reshape(-1, 2),
            )
        except (OSError, EOFError, ValueError, KeyError, TypeError) as error:
            raise PipelineError(f"{folder} holds no prepared photos ({error}): run `dvc repro`") from error

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Return the row numbers of a split, ascending."""
        return np.flatnonzero(self.splits == split).astype(np.int64)

    def digest(self, split: Split) -> str:
        """Return what identifies a split's photos and labels, whatever their order: SHA-256, hexadecimal."""
        rows = self.rows(split)
        lines = sorted(f"{self.hashes[row]} {self.classes[self.labels[row]]}\n" for row in rows)
        return hashlib.sha256("".join(lines).encode()).hexdigest()
