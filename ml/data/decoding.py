"""Decodes photos into shards, in one process per CPU."""

import contextlib
import dataclasses
import hashlib
import signal
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ml.data.duplicates import difference_hash
from ml.data.photo import Photo
from ml.data.shards import PHOTOS_PER_SHARD, ShardWriter, shard_path
from ml.data.workers import end_with_main_process
from ml.model.errors import PipelineError
from ml.model.host import available_cpus
from ml.model.image import ImageError, TooManyPixelsError, UnsupportedImageError, read
from ml.params import Prepare

_REASONS = {UnsupportedImageError: "unsupported", TooManyPixelsError: "too_many_pixels"}


def decode_all(params: Prepare, raw: Path, paths: list[str], folder: Path) -> tuple[list[Photo], list[int]]:
    """Decode files, and write the photos to shards in `folder`.

    Args:
        params: how photos become squares.
        raw: the folder that the paths are relative to.
        paths: class/file of each file.
        folder: where the shards go.

    Returns:
        A photo for each path, in the same order, and the number of photos in each shard.

    Raises:
        PipelineError: a worker process was killed.
        OSError: a shard cannot be written.
    """
    photos: list[Photo] = []
    counts: list[int] = []
    parts = [paths[first : first + PHOTOS_PER_SHARD] for first in range(0, len(paths), PHOTOS_PER_SHARD)]
    try:
        with _pool() as pool:
            results = pool.map(partial(_decode_shard, params, raw, folder), range(len(parts)), parts)
            with tqdm(desc="decode", total=len(paths)) as progress:
                for part in results:
                    photos += part
                    counts.append(sum(photo.row >= 0 for photo in part))
                    progress.update(len(part))
    except BrokenProcessPool as error:
        raise PipelineError("a decoding process was killed, probably because memory ran out") from error
    return photos, counts


@contextlib.contextmanager
def _pool() -> Iterator[ProcessPoolExecutor]:
    pool = ProcessPoolExecutor(available_cpus(), initializer=_begin_worker)
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)


def _begin_worker() -> None:
    """Leave Ctrl-C to the main process, and end if that is killed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    end_with_main_process()


def _decode_shard(params: Prepare, raw: Path, folder: Path, number: int, paths: list[str]) -> list[Photo]:
    """Decode the files of one shard."""
    photos = []
    with ShardWriter(shard_path(folder, number), params.image_size) as shard:
        for path in paths:
            photo, pixels = _decode(params, raw, path)
            if pixels is not None:
                photo = dataclasses.replace(photo, row=number * PHOTOS_PER_SHARD + shard.count)
                shard.add(pixels)
            photos.append(photo)
    return photos


def _decode(params: Prepare, raw: Path, path: str) -> tuple[Photo, NDArray[np.uint8] | None]:
    """Decode one file, without raising for bad files."""
    photo = Photo(path)
    try:
        data = (raw / path).read_bytes()
        photo = dataclasses.replace(photo, sha256=hashlib.sha256(data).hexdigest())
        decoded = read(data, params.image_size, params.resize)
    except ImageError as error:
        return photo.drop(_REASONS.get(type(error), "broken"), str(error)), None
    except OSError as error:
        return photo.drop("unreadable", str(error.strerror)), None
    except MemoryError:
        return photo.drop("unreadable", "not enough memory"), None
    photo = dataclasses.replace(
        photo,
        pixels_sha256=hashlib.sha256(decoded.pixels.data).hexdigest(),
        size=(decoded.width, decoded.height),
        code=difference_hash(decoded.pixels),
    )
    return photo, decoded.pixels
