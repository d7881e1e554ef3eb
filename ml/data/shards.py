"""The pixels of the prepared photos on disk: `.npy` files ("shards"), each with a fixed number of photos.

Shards are written and read one photo at a time, with ordinary reads and writes. Memory stays small for any
number of photos, and a full or broken disk raises an OSError. With a memory-mapped file, it would kill the
process.
"""

from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

import numpy as np
from numpy.typing import NDArray

from ml.model.errors import PipelineError

PHOTOS_PER_SHARD = 32
"""Most photos in one shard, 5 MB at 224 pixels. Row r is in shard r // PHOTOS_PER_SHARD."""

HEADER_BYTES = 128  # NumPy leaves room in it, so that the number of photos can be filled in at the end


class ShardWriter:
    """Writes square photos uint8 [size, size, 3] to a new .npy file; raises OSError as files do."""

    def __init__(self, path: Path, size: int) -> None:
        self.count = 0
        self._file, self._size = path.open("xb"), size
        self._write_header()

    def add(self, pixels: NDArray[np.uint8]) -> None:
        """Append a photo."""
        self._file.write(np.ascontiguousarray(pixels).data)
        self.count += 1

    def _write_header(self) -> None:
        self._file.seek(0)
        shape = (self.count, self._size, self._size, 3)
        np.lib.format.write_array_header_1_0(
            self._file, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        assert self._file.tell() == HEADER_BYTES

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with self._file:
            if error is None:
                self._write_header()


class Shards:
    """The photos in a folder of shards, which are read when they are indexed, as an array would be.

    Attributes:
        shape: [N, size, size, 3], as that of the array uint8.
        folder: where they are.
    """

    def __init__(self, folder: Path, rows: NDArray[np.int64], size: int) -> None:
        """Describe photos in a folder of shards; `rows` [N] are their rows, see `PHOTOS_PER_SHARD`."""
        self.shape = (len(rows), size, size, 3)
        self.folder, self._rows = folder, rows

    def check(self, counts: Sequence[int]) -> None:
        """Check that there are shards with these numbers of photos, and all rows in them.

        Raises:
            PipelineError: they are not there.
            OSError: a shard is missing.
        """
        paths = [shard_path(self.folder, number) for number in range(len(counts))]
        self._check(counts, {path.name: path.stat().st_size for path in paths})

    def _check(self, counts: Sequence[int], sizes: Mapping[str, int]) -> None:
        photo_bytes = int(np.prod(self.shape[1:]))
        for number, count in enumerate(counts):
            path = shard_path(self.folder, number)
            if sizes.get(path.name) != HEADER_BYTES + count * photo_bytes:
                raise PipelineError(
                    f"{path} does not hold {count} photos of {self.shape[1]} pixels: run `dvc repro`"
                )
        shards, places = np.divmod(self._rows, PHOTOS_PER_SHARD)
        if len(self) and not (shards.min() >= 0 and (places < np.array(counts)[shards]).all()):
            raise PipelineError(f"{self.folder} has fewer photos than splits.json lists: run `dvc repro`")

    def __len__(self) -> int:
        return self.shape[0]

    def __getitem__(self, key: int | slice | NDArray[np.int64]) -> NDArray[np.uint8]:
        """Read one photo [size, size, 3], or some [M, size, size, 3] in the order of `key`.

        Raises:
            PipelineError: a shard is no longer there, or cannot be read.
        """
        rows = self._rows[key]
        images = np.empty((*rows.shape, *self.shape[1:]), np.uint8)
        flat = images.reshape(-1, int(np.prod(self.shape[1:])))
        for row, image in zip(np.ravel(rows).tolist(), flat, strict=True):
            self._read(row, image)
        return images

    def _read(self, row: int, image: NDArray[np.uint8]) -> None:
        number, place = divmod(row, PHOTOS_PER_SHARD)
        path = shard_path(self.folder, number)
        try:
            # Opened anew each time, so that workers and threads can share this object.
            with path.open("rb", buffering=0) as file:
                file.seek(HEADER_BYTES + place * image.nbytes)
                if file.readinto(image.data) != image.nbytes:
                    raise PipelineError(f"{path} is too short: run `dvc repro`")
        except OSError as error:
            raise PipelineError(
                f"{path} cannot be read ({error.strerror}); if the photos were prepared again meanwhile, "
                "start this again"
            ) from error


def shard_path(folder: Path, number: int) -> Path:
    """Return the path of a shard."""
    return folder / f"{number:05d}.npy"
