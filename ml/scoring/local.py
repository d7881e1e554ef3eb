"""Scores photos on this machine, in threads."""

from collections.abc import Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from itertools import islice

import pyarrow as pa

from ml.model.allocator import bound_freed_memory
from ml.model.host import available_cpus
from ml.scoring.output import Output
from ml.scoring.scorer import Scorer

_TASK = 8  # photos; each task costs a switch to the main thread and back
_AHEAD = 2  # tasks per thread that are begun or wait


def run(paths: Iterable[str], model_path: str, output: Output, threads: int | None = None) -> None:
    """Score photos into a dataset.

    Args:
        paths: of the photos; it is read as they are scored, so memory doesn't depend on their number.
        model_path: a `model.pt`.
        output: has begun, see `Output`.
        threads: None: one per CPU.

    Raises:
        PipelineError: the model can't be used, or the source or the dataset fails.
    """
    bound_freed_memory()
    threads = threads or available_cpus()
    scorer = Scorer(model_path)
    pending: set[Future[pa.Table]] = set()
    with ThreadPoolExecutor(threads, "score") as pool:
        try:
            for task in _tasks(paths):
                pending.add(pool.submit(scorer.score, task))
                if len(pending) >= _AHEAD * threads:
                    done, pending = wait(pending, return_when=FIRST_COMPLETED)
                    _write(done, output)
            _write(pending, output)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _write(futures: Iterable["Future[pa.Table]"], output: Output) -> None:
    for future in futures:
        output.write(future.result())


def _tasks(paths: Iterable[str]) -> Iterator[list[str]]:
    stream = iter(paths)
    while task := list(islice(stream, _TASK)):
        yield task
