"""Locks on the files and folders of the data set, of which several commands write the same ones."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from filelock import FileLock, Timeout

from ml.model.errors import PipelineError


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Keep other processes from the same file or folder, by a lock that the system ends with this process.

    Raises:
        PipelineError: another process has it.
    """
    try:
        with FileLock(path.with_name(f".{path.name}.lock"), timeout=0):
            yield
    except Timeout as error:
        raise PipelineError(f"another process is writing {path}: end it first") from error
