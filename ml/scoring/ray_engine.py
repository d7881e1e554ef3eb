"""Scores photos on a Ray cluster: tasks score batches, and this process, the driver, writes their tables.

Only the driver writes. So a photo is in the dataset exactly once, whichever processes die: a batch whose
process or node died is scored again, and what a dead driver had not written is scored by its next run.

The tasks are Ray's own and not a `map_batches` of Ray Data. Whenever an actor dies, Ray Data gives its batch
to a new one, without end, so one photo that kills its process would stop the job. Here the driver learns of
the death, and halves the batch until that photo is alone.
"""

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa
import ray

from ml import cluster, local_model
from ml.cli import note
from ml.model.allocator import bound_freed_memory
from ml.model.errors import PipelineError
from ml.scoring import stores
from ml.scoring.output import Output
from ml.scoring.scorer import SCHEMA, Scorer

_BATCH = 256  # photos per task: 2 s of work, which is what the death of a process costs
_SLICE = 16  # photos that a thread of a task scores at once
_REMOTE_THREADS = 8  # per task, because they wait for the network most of the time
_AHEAD = 64  # tasks that even an empty cluster gets, so that its autoscaler sees them
_DEATHS = 3  # of processes that scored only this photo: then the photo is the cause
_START_S = 60.0  # after which a cluster without a free CPU is worth a line
_POLL_S = 10.0  # time in which nodes that came or went may remain unnoticed


class Scoring(Protocol):
    """What a process holds for its whole life: `ml.scoring.scorer.Scorer`, or one like it."""

    def score(self, paths: Sequence[str]) -> pa.Table:
        """Return one row of SCHEMA per photo; several threads call it."""
        ...


class _Batch(NamedTuple):
    paths: list[str]
    deaths: int = 0  # of processes that scored exactly these photos


def run(
    paths: Iterable[str],
    model_path: str,
    output: Output,
    load: Callable[[Path], Scoring] = Scorer,
    batch: int = _BATCH,
) -> None:
    """Score photos into a dataset, on the cluster that RAY_ADDRESS names, or on a new one of this machine.

    A photo whose process dies again and again gets a row with an error. Memory does not depend on the number
    of photos: it holds the paths of the submitted batches, and the tables that are ready.

    Args:
        paths: addresses of photos that every node can read.
        model_path: a `model.pt` on this machine.
        output: has begun, see `Output`.
        load: makes the scorer of a process from a copy of the model.
        batch: photos per task.

    Raises:
        PipelineError: the model can't be used, there is no such cluster, or its nodes can't run the code.
    """
    version = local_model.load(Path(model_path)).manifest.version
    with cluster.joined():
        content = ray.put(Path(model_path).read_bytes())
        task = ray.remote(num_cpus=1, memory=cluster.TASK_MEMORY, max_retries=0)(_score)
        _wait_for(task.remote(content, load, []))

        def submit(this: _Batch) -> Any:
            # A photo that is alone is tried on several nodes, because its node may be the cause.
            where = task.options(scheduling_strategy="SPREAD") if this.deaths else task
            return where.remote(content, load, this.paths)

        for table in _score_all(iter(paths), submit, version, batch):
            output.write(table)


def _score_all(
    paths: Iterator[str], submit: Callable[[_Batch], Any], version: str, batch: int
) -> Iterator[pa.Table]:
    """Yield tables in the order in which the tasks end, and an empty one if none ends for _POLL_S."""
    again: list[_Batch] = []
    running: dict[Any, _Batch] = {}
    while True:
        free = max(_AHEAD, 2 * cluster.cpus()) - len(running)
        for _ in range(free):
            this = again.pop() if again else _Batch(list(islice(paths, batch)))
            if not this.paths:
                break
            running[submit(this)] = this
        if not running:
            return
        done = ray.wait(list(running), timeout=_POLL_S)[0]
        if not done:
            yield SCHEMA.empty_table()
        for ended in done:
            photos, deaths = running.pop(ended)
            try:
                yield ray.get(ended)
            except cluster.LOST as error:
                if len(photos) > 1:
                    middle = len(photos) // 2
                    again += [_Batch(photos[:middle]), _Batch(photos[middle:])]
                elif deaths + 1 < _DEATHS:
                    again.append(_Batch(photos, deaths + 1))
                else:
                    reason = f"each process that scores it dies ({type(error).__name__})"
                    row = {"path": photos[0], "error": reason, "model_version": version}
                    yield pa.Table.from_pylist([row], SCHEMA)


def _wait_for(first: Any) -> None:
    """Wait for a task without photos, so that no photo is blamed for a fault of the nodes."""
    if not ray.wait([first], timeout=_START_S)[0]:
        memory = f"{cluster.TASK_MEMORY >> 20} MB of memory"
        note(f"waiting for a node of the Ray cluster with a free CPU and {memory}")
    try:
        ray.get(first)
    except cluster.LOST as error:
        raise PipelineError(f"the process that loads the model dies on the Ray cluster: {error}") from error


_scorer: Scoring | None = None  # of this process, which Ray starts for one driver and uses for many tasks


def _score(model: bytes, load: Callable[[Path], Scoring], paths: list[str]) -> pa.Table:
    """Score a batch, in a process on any node."""
    global _scorer
    if _scorer is None:
        bound_freed_memory()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "model.pt")
            file.write_bytes(model)
            _scorer = load(file)
    slices = [paths[first : first + _SLICE] for first in range(0, len(paths), _SLICE)]
    remote = any(map(stores.is_remote, paths))
    with ThreadPoolExecutor(_REMOTE_THREADS if remote else 1) as pool:
        return pa.concat_tables([SCHEMA.empty_table(), *pool.map(_scorer.score, slices)])
