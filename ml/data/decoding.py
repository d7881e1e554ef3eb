"""Decodes photos into shards: in one process per CPU, or on a Ray cluster."""

import contextlib
import dataclasses
import importlib
import multiprocessing
import os
import signal
import sys
from collections.abc import Callable, Generator, Iterator
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

from tqdm import tqdm

from ml.data.decode import decode, read_file
from ml.data.photo import Photo
from ml.data.shards import PHOTOS_PER_SHARD, ShardWriter, shard_path
from ml.data.workers import end_with_main_process
from ml.model.errors import PipelineError
from ml.model.host import available_cpus
from ml.params import Prepare

DecodeParts = Callable[[Prepare, Path, Path, list[list[str]]], Generator[list[Photo], None, None]]
"""Takes what `decode_all` does, with the paths of each shard; yields the photos of each."""


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
    decode_parts = _cluster() if os.environ.get("RAY_ADDRESS") else _decode_here
    with (
        tqdm(desc="decode", total=len(paths)) as progress,
        contextlib.closing(decode_parts(params, raw, folder, parts)) as results,
    ):
        for part in results:
            photos += part
            counts.append(sum(photo.row >= 0 for photo in part))
            progress.update(len(part))
    return photos, counts


def _cluster() -> DecodeParts:
    try:
        return importlib.import_module("ml.data.ray_decoding").decode_parts  # type: ignore[no-any-return]
    except ImportError as error:
        raise PipelineError(
            "RAY_ADDRESS is set, but Ray is not installed: unset it, or install Ray (docs/scale.md)"
        ) from error


def _decode_here(
    params: Prepare, raw: Path, folder: Path, parts: list[list[str]]
) -> Generator[list[Photo], None, None]:
    try:
        with _pool() as pool:
            yield from pool.map(partial(_decode_shard, params, raw, folder), range(len(parts)), parts)
    except BrokenProcessPool as error:
        raise PipelineError("a decoding process was killed, probably because memory ran out") from error


@contextlib.contextmanager
def _pool() -> Iterator[ProcessPoolExecutor]:
    # Forks share what this process has imported. On macOS they may hang, and the default there is another.
    context = multiprocessing.get_context("fork" if sys.platform == "linux" else None)
    pool = ProcessPoolExecutor(available_cpus(), context, initializer=_begin_worker)
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
            photo, pixels = decode(path, read_file(raw / path), params.image_size, params.resize)
            if pixels is not None:
                photo = dataclasses.replace(photo, row=number * PHOTOS_PER_SHARD + shard.count)
                shard.add(pixels)
            photos.append(photo)
    return photos
