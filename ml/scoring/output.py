"""The dataset that scoring writes: Parquet files in a folder or an object store, to which runs add rows."""

import contextlib
import errno
import json
import os
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any, Self

import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from pyarrow import fs

from ml.model.errors import PipelineError, one_line
from ml.model.files import replaced
from ml.scoring import stores
from ml.scoring.ledger import Ledger
from ml.scoring.scorer import SCHEMA

PART_ROWS = 10_000
"""Rows of a part file, unless they take longer than PART_S or more than _PART_BYTES."""
PART_S = 30.0
"""Seconds after which rows are written in any case: a run that is killed loses no more than that."""
_PART_BYTES = 32 * 1024 * 1024
_LISTED = 256  # paths that are noted at the same time
_BATCH_ROWS = 8192  # that are read at the same time
_REASONS = 100  # different errors that are counted by themselves
_BEGUN_WITH = "_scoring.json"
"""Readers of Parquet datasets ignore files that begin with `_` or `.`."""
_DISK_FULL = (errno.ENOSPC, errno.EDQUOT)


@dataclass(frozen=True)
class Summary:
    """The counts of a dataset at the end of a run.

    Attributes:
        listed: different photos of the source.
        rows: rows of the dataset.
        missing: photos of the source without a row.
        doubled: photos with more than one row.
        labels: number of rows by label.
        errors: number of rows by error.
        scored: rows that this run has written.
        seconds: from the first photo to the last one of this run.
    """

    listed: int
    rows: int
    missing: int
    doubled: int
    labels: Counter[str]
    errors: Counter[str]
    scored: int
    seconds: float

    @property
    def complete(self) -> bool:
        """Whether each photo of the source has exactly one row."""
        return not self.missing and not self.doubled


class Output:
    """A dataset in a local folder, `s3://BUCKET/PREFIX` or `gs://BUCKET/PREFIX`.

    First `begin`, then `write` for the photos that `remaining` yields, then `close` and `summary`; as a
    context manager, it closes itself. A copy in another process (by pickle) can only `write_part`.

    Args:
        out: the folder or address of the dataset. A folder that does not exist is created.
        part_rows: rows of a part file.

    Attributes:
        report: called with the number of rows that `write` got, to show the progress.
    """

    def __init__(self, out: str, part_rows: int = PART_ROWS) -> None:
        if not out:
            raise PipelineError("OUT is empty")
        try:
            self._root = stores.canonical(out)
            self._is_local = not stores.scheme(self._root)
        except ValueError as error:
            raise stores.unusable(out, error) from error
        self.report: Callable[[int], Any] = lambda _: None
        self._part_rows = part_rows
        self._ledger = Ledger()
        self._waiting: list[pa.Table] = []
        self._waiting_rows, self._waiting_bytes = 0, 0
        self._lock: int | None = None
        self._scored, self._seconds = 0, 0.0
        self._begun_at = self._written_at = time.monotonic()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """Write what is left, let other runs write, and forget which photos have rows."""
        try:
            self.close()
        finally:
            self._unlock_folder()
            self._ledger.close()

    def __getstate__(self) -> dict[str, Any]:
        """Leave out what belongs to this process."""
        return {"_root": self._root, "_is_local": self._is_local}

    def begin(self, source: str, model_sha256: str, retry_errors: bool = False) -> None:
        """Create the dataset, or read which photos it has.

        Args:
            source: as `ml.scoring.sources.canonical` returns it.
            model_sha256: of the `model.pt`.
            retry_errors: remove the rows with an error, so that their photos are scored again.

        Raises:
            PipelineError: it can't be used, was begun with another source or model, or is being written.
        """
        try:
            self._begin(source, model_sha256, retry_errors)
        except BaseException:
            self._unlock_folder()
            raise
        self._begun_at = self._written_at = time.monotonic()

    def _begin(self, source: str, model_sha256: str, retry_errors: bool) -> None:
        with self._errors():
            if self._is_local:
                try:
                    Path(self._root).mkdir(parents=True, exist_ok=True)
                except (FileExistsError, NotADirectoryError) as error:
                    raise PipelineError(
                        f"{one_line(self._root)} can't be a folder: a file is in the way"
                    ) from error
                self._lock_folder()
            self._check({"source": source, "model_sha256": model_sha256})
            if self._is_local:
                for name in ("part-*.parquet", _BEGUN_WITH):  # of a run that was killed
                    for unfinished in Path(self._root).glob(f".{name}.*.part"):
                        unfinished.unlink()
            if retry_errors:
                self._remove_errors()
            self._count_rows()

    def present(self) -> int:
        """Return how many photos have a row."""
        return self._ledger.present()

    def remaining(self, paths: Iterable[str]) -> Iterator[str]:
        """Yield the paths that have no row, each once, and note all of them as listed."""
        stream = iter(paths)
        while listed := list(islice(stream, _LISTED)):
            yield from self._ledger.note_listed(listed)

    def write(self, table: pa.Table) -> None:
        """Add rows, which are gathered to part files of `part_rows` rows, or of PART_S seconds.

        Call it with an empty table if no answer comes, so that waiting rows are written in time.

        Raises:
            PipelineError: the dataset can't be written.
            OSError: the disk is full.
        """
        if table.num_rows:
            self._waiting.append(table)
            self._seconds = time.monotonic() - self._begun_at
        self._waiting_rows += table.num_rows
        self._waiting_bytes += table.nbytes
        self._scored += table.num_rows
        self.report(table.num_rows)
        if (
            self._waiting_rows >= self._part_rows
            or self._waiting_bytes >= _PART_BYTES
            or time.monotonic() - self._written_at >= PART_S
        ):
            self._write_waiting()

    def write_part(self, table: pa.Table) -> None:
        """Write a part file of its own, which appears as a whole or not at all; raises as `write`."""
        name = f"part-{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{uuid.uuid4().hex}.parquet"
        buffer = pa.BufferOutputStream()
        pq.write_table(table.cast(SCHEMA), buffer, compression="zstd")
        with self._errors():
            self._put(name, buffer.getvalue())

    def close(self) -> None:
        """Write the rows that wait for their part file."""
        self._write_waiting()

    def summary(self) -> Summary:
        """Return the counts, for which the whole dataset is read again; raises as `begin`."""
        self.close()
        with self._errors():
            labels, errors = self._count_rows()
        return Summary(
            listed=self._ledger.listed(),
            rows=labels.total() + errors.total(),
            missing=self._ledger.missing(),
            doubled=self._ledger.doubled(),
            labels=labels,
            errors=errors,
            scored=self._scored,
            seconds=self._seconds,
        )

    def _write_waiting(self) -> None:
        if self._waiting:
            table = pa.concat_tables(self._waiting)
            self._waiting.clear()
            self._waiting_rows, self._waiting_bytes = 0, 0
            self.write_part(table)
        self._written_at = time.monotonic()

    def _put(self, name: str, content: Any) -> None:
        if self._is_local:
            with replaced(Path(self._root) / name) as file:
                file.write(content)
        else:  # an object appears when its upload is complete
            file_system, path = stores.locate(self._root)
            with file_system.open_output_stream(f"{path}/{name}") as stream:
                stream.write(content)

    def _parts(self) -> list[str]:
        """Return the paths of the part files in their file system."""
        return sorted(path for path in self._files() if path.endswith(".parquet"))

    def _files(self) -> list[str]:
        file_system, path = stores.locate(self._root)
        infos = file_system.get_file_info(fs.FileSelector(path, allow_not_found=True))
        return [info.path for info in infos if not info.base_name.startswith(".")]

    def _check(self, begun: dict[str, str]) -> None:
        """Compare what the dataset was begun with, or note it in a new dataset."""
        file_system, path = stores.locate(self._root)
        files = self._files()
        if not files:
            self._put(_BEGUN_WITH, json.dumps(begun, indent=2).encode())
            return
        name = f"{path}/{_BEGUN_WITH}"
        if name not in files:
            raise PipelineError(f"{one_line(self._root)} has files of something else: choose another folder")
        with file_system.open_input_file(name) as stream:
            before = json.loads(stream.read())
        for key, meaning in (("source", "source"), ("model_sha256", "model")):
            if before[key] != begun[key]:
                raise PipelineError(
                    f"{one_line(self._root)} was begun with another {meaning} ({one_line(before[key])}, "
                    f"now {one_line(begun[key])}): choose another folder"
                )

    def _count_rows(self) -> tuple[Counter[str], Counter[str]]:
        """Read the dataset into the ledger; return its labels and errors."""
        labels: Counter[str] = Counter()
        errors: Counter[str] = Counter()
        self._ledger.forget_rows()
        file_system, _ = stores.locate(self._root)
        for part in self._parts():
            with file_system.open_input_file(part) as stream, self._errors(part):
                for batch in pq.ParquetFile(stream).iter_batches(
                    _BATCH_ROWS, columns=["path", "label", "error"]
                ):
                    self._ledger.add_rows(batch["path"].to_pylist())
                    for value in pc.value_counts(batch["label"].drop_null()).to_pylist():
                        labels[value["values"]] += value["counts"]
                    for value in pc.value_counts(batch["error"].drop_null()).to_pylist():
                        errors[_reason(errors, value["values"])] += value["counts"]
        return labels, errors

    def _remove_errors(self) -> None:
        """Write the parts again without errors. If that is interrupted, more photos are scored again."""
        file_system, _ = stores.locate(self._root)
        for part in self._parts():
            with file_system.open_input_file(part) as stream:
                table = pq.read_table(stream)
            good = table.filter(pc.is_null(table["error"]))
            if good.num_rows < table.num_rows:
                file_system.delete_file(part)
                if good.num_rows:
                    self.write_part(good)

    def _lock_folder(self) -> None:
        """Keep other runs out until this one ends, however it ends."""
        try:
            import fcntl
        except ImportError:  # Windows
            return
        if self._lock is None:
            self._lock = os.open(self._root, os.O_RDONLY)
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            raise PipelineError(f"{one_line(self._root)} is being written by another run") from error

    def _unlock_folder(self) -> None:
        if self._lock is not None:
            os.close(self._lock)
            self._lock = None

    @contextlib.contextmanager
    def _errors(self, place: str | None = None) -> Iterator[None]:
        """Translate errors of files and stores, except a full disk, which the command line reports."""
        try:
            yield
        except (OSError, ValueError, LookupError, TypeError) as error:
            if isinstance(error, OSError) and error.errno in _DISK_FULL:
                raise
            raise stores.unusable(place or self._root, error) from error


def _reason(counts: Counter[str], reason: str) -> str:
    """Return an error as it is, or a word for all others if there are too many different ones."""
    return reason if reason in counts or len(counts) < _REASONS else "other"
