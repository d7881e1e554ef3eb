"""Scores photos on this machine, in threads."""

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import chain, islice

import pyarrow as pa

from ml.cli import note
from ml.model.allocator import bound_freed_memory
from ml.model.host import available_cpus
from ml.scoring import stores
from ml.scoring.output import Output
from ml.scoring.scorer import SCHEMA, Scorer

_REMOTE_THREADS = 8  # per CPU, because they wait for the network most of the time
_TASK = 16  # photos; each task costs a switch to the main thread and back
_AHEAD = 2  # tasks per thread that are begun or wait
_POLL_S = 1.0  # after which rows are written although all tasks wait for slow photos


def run(paths: Iterable[str], model_path: str, output: Output, threads: int | None = None) -> None:
    """Score photos into a dataset.

    Args:
        paths: of the photos; it is read as they are scored, so memory doesn't depend on their number.
        model_path: a `model.pt`.
        output: has begun, see `Output`.
        threads: None: one per CPU, or eight if the first photo is not on this machine.

    Raises:
        PipelineError: the model can't be used, or the source or the dataset fails.
    """
    bound_freed_memory()
    stream = iter(paths)
    first = list(islice(stream, 1))
    remote = any(stores.is_remote(path) for path in first)
    threads = threads or available_cpus() * (_REMOTE_THREADS if remote else 1)
    note(f"engine: {threads} threads")
    scorer = Scorer(model_path)
    pending: set[Future[pa.Table]] = set()
    with ThreadPoolExecutor(threads, "score") as pool:
        try:
            for task in _tasks(chain(first, stream)):
                pending.add(pool.submit(scorer.score, task))
                while len(pending) >= _AHEAD * threads:
                    pending = _write_done(pending, output)
            while pending:
                pending = _write_done(pending, output)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _write_done(pending: "set[Future[pa.Table]]", output: Output) -> "set[Future[pa.Table]]":
    """Wait for a moment, write the rows of the tasks that have ended, and return the other tasks."""
    done, pending = wait(pending, _POLL_S, FIRST_COMPLETED)
    output.write(pa.concat_tables([SCHEMA.empty_table(), *(future.result() for future in done)]))
    return pending


def _tasks(paths: Iterable[str]) -> Iterator[list[str]]:
    stream = iter(paths)
    while task := list(islice(stream, _TASK)):
        yield task
