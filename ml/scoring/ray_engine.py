"""Scoring on a Ray cluster: tasks score batches of photos, and this process, the driver, gets their tables.

Only the driver writes the output. So a photo is in it exactly once, whichever processes die: a batch whose process
or node died is scored again, and what a dead driver had not written is scored by its next run.

The tasks are Ray's own and not a `map_batches` of Ray Data: that gives a batch to a new actor whenever its actor
dies, without end, so that one photo which kills its process would stop the job. Here the driver learns of the
death and halves the batch until that photo is alone.
"""

import os
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pyarrow as pa

os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")  # read by Ray when it is imported; no usage data are sent

import ray
from ray import exceptions

from ml import local_model
from ml.cli import note
from ml.model.errors import PipelineError
from ml.model.host import available_cpus
from ml.scoring.scorer import SCHEMA, Scorer

_BATCH = 256  # photos per task: 2 s of work, which is what the death of a process costs
_AHEAD = 64  # tasks that even an empty cluster gets, so that its autoscaler sees them
_DEATHS = 3  # of processes that scored only this photo: then the photo is the cause
_MEMORY = 500 << 20  # bytes that a task reserves, so that a node with many CPUs and little memory isn't overrun
_STORE = 100 << 20  # bytes of shared memory on a cluster of this machine: the model, and tables on their way
_START_S = 60.0  # after which a cluster without a free CPU is worth a line
_POLL_S = 10.0  # time in which nodes that came or went may remain unnoticed

_LOST = (
    exceptions.WorkerCrashedError,
    exceptions.NodeDiedError,
    exceptions.OutOfMemoryError,
    exceptions.ObjectLostError,  # the table, together with the node that held it
    exceptions.LocalRayletDiedError,
)


class Scoring(Protocol):
    """What a process holds for its whole life: `ml.scoring.scorer.Scorer`, or one like it."""

    def score(self, paths: Sequence[str]) -> pa.Table:
        """Return one row of SCHEMA per photo."""
        ...


class _Batch(NamedTuple):
    paths: list[str]
    deaths: int = 0  # of processes that scored exactly these photos


def run(
    photos: Iterable[str],
    model: Path,
    load: Callable[[Path], Scoring] = Scorer,
    batch: int = _BATCH,
) -> Iterator[pa.Table]:
    """Score photos on the cluster that RAY_ADDRESS names, or on one of this machine's CPUs.

    A photo whose process dies again and again gets a row with `error`. Memory is bounded: only the paths of the
    submitted batches and the tables that are ready are held.

    Args:
        photos: addresses that every node can read.
        model: a model.pt on this machine.
        load: makes the scorer of a process from a copy of the model.
        batch: photos per task.

    Yields:
        tables of SCHEMA with a row per photo, in the order in which the tasks end.

    Raises:
        PipelineError: the model can't be used, there is no such cluster, or its nodes can't run the code.
    """
    version = local_model.load(model).manifest.version
    _connect()
    try:
        yield from _score_all(iter(photos), model, version, load, batch)
    except (exceptions.RuntimeEnvSetupError, exceptions.RayTaskError) as error:
        raise PipelineError(f"a node of the Ray cluster failed: {error}") from error
    finally:
        ray.shutdown()


def _score_all(
    photos: Iterator[str], model: Path, version: str, load: Callable[[Path], Scoring], batch: int
) -> Iterator[pa.Table]:
    content = ray.put(model.read_bytes())
    task = ray.remote(num_cpus=1, memory=_MEMORY, max_retries=0)(_score)
    _wait_for(task.remote(content, load, []))
    again: list[_Batch] = []
    running: dict[Any, _Batch] = {}
    while True:
        free = max(_AHEAD, 2 * int(ray.cluster_resources().get("CPU", 0))) - len(running)
        for _ in range(free):
            next_batch = again.pop() if again else _Batch(list(islice(photos, batch)))
            if not next_batch.paths:
                break
            # A photo that is alone is tried on other nodes, in case that its node is the cause.
            where = task.options(scheduling_strategy="SPREAD") if next_batch.deaths else task
            running[where.remote(content, load, next_batch.paths)] = next_batch
        if not running:
            return
        for ended in ray.wait(list(running), timeout=_POLL_S)[0]:
            paths, deaths = running.pop(ended)
            try:
                yield ray.get(ended)
            except _LOST as error:
                if len(paths) > 1:
                    middle = len(paths) // 2
                    again += [_Batch(paths[:middle]), _Batch(paths[middle:])]
                elif deaths + 1 < _DEATHS:
                    again.append(_Batch(paths, deaths + 1))
                else:
                    reason = f"each process that scores it dies ({type(error).__name__})"
                    row = {"path": paths[0], "error": reason, "model_version": version}
                    yield pa.Table.from_pylist([row], SCHEMA)


def _wait_for(first: Any) -> None:
    """Wait for a task without photos, so that no photo is blamed for a fault of the nodes."""
    if not ray.wait([first], timeout=_START_S)[0]:
        note(f"waiting for a node of the Ray cluster with a free CPU and {_MEMORY >> 20} MB of memory")
    try:
        ray.get(first)
    except _LOST as error:
        raise PipelineError(f"the process that loads the model dies on the Ray cluster: {error}") from error


_scorer: Scoring | None = None  # of this process, which Ray starts for one driver and uses for many tasks


def _score(model: bytes, load: Callable[[Path], Scoring], paths: list[str]) -> pa.Table:
    """Score a batch, in a process on any node."""
    global _scorer
    if _scorer is None:
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "model.pt")
            file.write_bytes(model)
            _scorer = load(file)
    return _scorer.score(paths) if paths else SCHEMA.empty_table()


def _connect() -> None:
    """Join the cluster of RAY_ADDRESS with this code, or start one here.

    The nodes get this package `ml` and the model, so that they never score with another version. Of their own they
    need only the packages that it imports.
    """
    address = os.environ.get("RAY_ADDRESS")
    limits = {} if address else {"num_cpus": available_cpus(), "object_store_memory": _STORE}
    try:
        ray.init(
            address=address or "local",  # without an address, Ray would join any cluster that it finds here
            runtime_env={"py_modules": [str(Path(__file__).parents[1])], "excludes": ["__pycache__"]},
            include_dashboard=None if address else False,
            log_to_driver=False,
            logging_level="ERROR",
            **limits,
        )
    except (ConnectionError, RuntimeError, ValueError) as error:
        place = f"RAY_ADDRESS={address}" if address else "this machine"
        raise PipelineError(f"no Ray cluster at {place}: {error}") from error
