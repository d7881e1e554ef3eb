"""The prepared photos on disk, which prepare writes and the later stages read."""

import dataclasses
import hashlib
import json
import os
from pathlib import Path
from typing import Literal, Self

import numpy as np
from numpy.typing import NDArray

from ml.data.remote import RemoteShards, is_url, read_object
from ml.data.shards import Shards
from ml.model.errors import ImageError, PipelineError
from ml.model.onnx_model import Images

FOLDER = Path("data/processed")
SPLITS = "splits.json"

Split = Literal["train", "val", "test"]


@dataclasses.dataclass(frozen=True)
class Dataset:
    """The prepared photos; row i of each attribute describes photo i.

    Attributes:
        classes: class names; a label is a position in this tuple.
        image_size: height and width of each photo, in pixels.
        resize: how photos became squares, see `ml.model.image.read`.
        images: uint8 [N, image_size, image_size, 3] RGB; they are read from disk when they are indexed.
        labels: int64 [N].
        splits: `train`, `val` or `test`, [N].
        paths: class/file of each photo.
        hashes: SHA-256 of each photo's file, in hexadecimal.
        sizes: int64 [N, 2], width and height of each whole upright photo, in pixels.
    """

    classes: tuple[str, ...]
    image_size: int
    resize: Literal["center_crop", "squash"]
    images: Images
    labels: NDArray[np.int64]
    splits: NDArray[np.str_]
    paths: list[str]
    hashes: list[str]
    sizes: NDArray[np.int64]

    @classmethod
    def load(cls, folder: Path | str | None = None) -> Self:
        """Open what prepare wrote; photos are read when they are used.

        Args:
            folder: a folder or the URL of an object store; None: what PREPARED_URL names, or `FOLDER`.

        Raises:
            PipelineError: a file is missing, or does not hold what it should.
        """
        folder = folder or os.environ.get("PREPARED_URL", "").rstrip("/") or FOLDER
        try:
            remote = is_url(folder)
            text = read_object(f"{folder}/{SPLITS}") if remote else (Path(folder) / SPLITS).read_bytes()
            index = json.loads(text)
            photos, size = index["photos"], index["image_size"]
            rows = np.array([photo["row"] for photo in photos], np.int64)
            name = index["images"]
            images = (
                RemoteShards(f"{folder}/{name}", rows, size)
                if remote
                else Shards(Path(folder) / name, rows, size)
            )
            images.check(index["shards"])
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
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise PipelineError(f"{folder} holds no prepared photos ({error}): run `dvc repro`") from error

    def rows(self, split: Split) -> NDArray[np.int64]:
        """Return the row numbers of a split, ascending."""
        return np.flatnonzero(self.splits == split).astype(np.int64)

    def sample(self, split: Split, count: int, seed: int, per_class: int = 0) -> NDArray[np.int64]:
        """Draw at most `count` row numbers of a split, ascending.

        A class of which fewer than `per_class` are drawn gets more, up to that number, beyond `count`.
        """
        mixed = np.random.default_rng(seed).permutation(self.rows(split))
        labels, classes = self.labels[mixed], range(len(self.classes)) if per_class else ()
        rare = [mixed[labels == number][:per_class] for number in classes]
        return np.unique(np.concatenate([mixed[:count], *rare]))

    def digest(self, split: Split) -> str:
        """Return the SHA-256 of a split's photos and labels, independent of their order, in hexadecimal."""
        rows = self.rows(split)
        lines = sorted(f"{self.hashes[row]} {self.classes[self.labels[row]]}\n" for row in rows)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def read_raw(data: Dataset, row: int, raw: Path) -> bytes:
    """Return the content of the ingested file of a prepared photo.

    Args:
        data: the prepared photos.
        row: of the photo.
        raw: the ingested photos.

    Raises:
        ImageError: the file has changed since it was prepared.
        OSError: it cannot be read.
    """
    content = (raw / data.paths[row]).read_bytes()
    if hashlib.sha256(content).hexdigest() != data.hashes[row]:
        raise ImageError("it has changed since it was prepared")
    return content
