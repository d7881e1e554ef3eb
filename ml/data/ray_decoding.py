"""Decodes photos into shards on a Ray cluster.

Only this process reads the files and writes the shards, so the nodes need no folder in common. A shard whose
process or node died is decoded again.
"""

import dataclasses
from collections import deque
from collections.abc import Generator
from pathlib import Path
from typing import Any

import ray

from ml import cluster
from ml.data.decode import decode_files, read_file
from ml.data.photo import Photo
from ml.data.shards import PHOTOS_PER_SHARD, ShardWriter, shard_path
from ml.model.errors import PipelineError
from ml.params import Prepare

_TRIES = 3  # of a shard whose process or node dies


def decode_parts(
    params: Prepare, raw: Path, folder: Path, parts: list[list[str]]
) -> Generator[list[Photo], None, None]:
    """Decode the files of each shard; see `ml.data.decoding.DecodeParts`.

    Memory is bounded by two shards per CPU of the cluster: their files, and their pixels.

    Raises:
        PipelineError: there is no such cluster, its nodes can't run the code, or every process that
            decodes one of the shards dies.
        OSError: a shard cannot be written.
    """
    with cluster.joined():
        task = ray.remote(num_cpus=1, memory=cluster.TASK_MEMORY, max_retries=_TRIES - 1)(decode_files)
        running: deque[Any] = deque()
        written = 0
        for paths in parts:
            if len(running) >= 2 * max(1, cluster.cpus()):
                yield _written(params, folder, written, parts[written], running.popleft())
                written += 1
            files = [read_file(raw / path) for path in paths]
            running.append(task.remote(paths, files, params.image_size, params.resize))
        while running:
            yield _written(params, folder, written, parts[written], running.popleft())
            written += 1


def _written(params: Prepare, folder: Path, number: int, paths: list[str], result: Any) -> list[Photo]:
    """Wait for the photos of a shard, and write it."""
    try:
        photos, pixels = ray.get(result)
    except cluster.LOST as error:
        raise PipelineError(
            f"each process that decodes {paths[0]} to {paths[-1]} dies on the Ray cluster: {error}"
        ) from error
    with ShardWriter(shard_path(folder, number), params.image_size) as shard:
        for place, square in enumerate(pixels):
            if square is not None:
                photos[place] = dataclasses.replace(
                    photos[place], row=number * PHOTOS_PER_SHARD + shard.count
                )
                shard.add(square)
    return photos  # type: ignore[no-any-return]
