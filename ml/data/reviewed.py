"""collected_decisions.csv: what people decided about collected photos, one line per decision, in their order.

Lines are only appended, each with an fsync, so that a kill or a power failure loses at most the line that is
being written. The last line about a photo counts. The file belongs in Git: it names no person and no
address.
"""

import contextlib
import dataclasses
import datetime
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Literal, get_args

from ml.data import collected, tables
from ml.data.collected import ID, CollectedPhoto, check_day
from ml.data.layout import check_class

PATH = Path("collected_decisions.csv")

Verdict = Literal["label", "none", "discard", "undo"]
VERDICTS: tuple[Verdict, ...] = get_args(Verdict)
ANOTHER = "another"
"""Stands for an answer that was none of the classes at the time of the decision."""


@dataclasses.dataclass(frozen=True)
class Entry:
    """A decision about a photo.

    Attributes:
        time: of the decision, UTC.
        id: of the photo's record.
        sha256: of the photo's file.
        decision: `label` (it shows a class), `none` (it shows none of them), `discard` (nobody can tell, or
            it must not be used), or `undo` (the earlier decision does not count).
        label: the class, if the decision is `label`; else empty.
        day: on which the service kept the photo.
        reasons: why it was kept, separated by spaces.
        answer: of the service, or `ANOTHER`.
        version: of its model.
    """

    time: str
    id: str
    sha256: str
    decision: Verdict
    label: str
    day: str
    reasons: str
    answer: str
    version: str

    def __post_init__(self) -> None:
        """Raise ValueError for a line that nobody may act upon."""
        datetime.datetime.fromisoformat(self.time)
        check_day(self.day)
        if not ID.fullmatch(self.id) or not tables.SHA256.fullmatch(self.sha256):
            raise ValueError("expected an id and a SHA-256 in lower-case hexadecimal")
        if self.decision not in VERDICTS:
            raise ValueError(f"the decision is one of {', '.join(VERDICTS)}")
        if bool(self.label) != (self.decision == "label"):
            raise ValueError("a label belongs to the decision `label`, and to no other")
        if self.label:
            check_class(self.label)

    @property
    def is_random(self) -> bool:
        """Whether the photo belongs to the random sample."""
        return "random" in self.reasons.split()


def now() -> str:
    """Return the present time in UTC, to the second."""
    return datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def load(path: Path = PATH, undone: bool = False) -> dict[str, Entry]:
    """Return the decisions that count, by id; none if there is no file.

    A last line without an end is left out: it was being written when the process was killed.

    Args:
        path: of the file.
        undone: whether photos whose last line is `undo` are among them.

    Raises:
        PipelineError: the file cannot be read, or a line is invalid.
    """
    entries: dict[str, Entry] = {}
    for entry in tables.load(path, Entry, whole_lines=True):
        entries.pop(entry.id, None)
        if undone or entry.decision != "undo":
            entries[entry.id] = entry
    return entries


def append(entries: Iterable[Entry], path: Path = PATH) -> None:
    """Append decisions; when this returns, they are on the disk.

    Raises:
        OSError: they cannot be written; the file is as it was.
    """
    with path.open("a+b", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        end = _end(size, path)
        if end < size:
            file.truncate(end)
        rest = tables.lines(Entry, entries, header=not end)
        try:
            while rest:
                rest = rest[file.write(rest) :]
            os.fsync(file.fileno())
        except OSError:
            with contextlib.suppress(OSError):
                file.truncate(end)
            raise


def _end(size: int, path: Path) -> int:
    """Return where the last complete line ends."""
    with path.open("rb") as file:
        file.seek(max(0, size - 1))
        return size if file.read(1) in (b"\n", b"") else path.read_bytes().rfind(b"\n") + 1


def check_delete(request_ids: Iterable[str]) -> None:
    """Raise PipelineError if the folder lacks photos that would stay, so that `dvc add` would drop them."""
    photos = collected.load()
    going = _of_requests(photos, request_ids)
    if going:
        staying = [photo for photo in photos if photo.id not in going]
        collected.check_present(staying if collected.FOLDER.is_dir() else photos)


def _of_requests(photos: list[CollectedPhoto], request_ids: Iterable[str]) -> set[str]:
    """Return the ids of the photos of answers or requests, and of the answers' photos from earlier attempts.

    See `ml.collected.command`.
    """
    request_ids = list(request_ids)
    named = set(map(collected.hashed, request_ids))
    requests = {collected.hashed(one.rpartition(".")[0]) for one in request_ids if "." in one}
    found = [photo for photo in photos if named & {photo.answer, photo.request}]
    copies = {photo.sha256 for photo in found}
    again = [photo for photo in photos if photo.request in requests and photo.sha256 in copies]
    return {photo.id for photo in (*found, *again)}


def delete(ids: Iterable[str], request_ids: Iterable[str] = ()) -> list[Path]:
    """Delete photos from the data set, and the decisions about them, by the ids of their records or requests.

    The id of a request is the one in an answer, or X-Request-ID for all of its photos. collected.csv names
    the file of an id. Versions that DVC has stored stay in its cache and its remote until `dvc gc`, and
    models that learned from a photo stay as they are until the next training. Call it with the lock of
    collected.csv, so that no export lists the photo again.

    Returns:
        The deleted files, among them those that an earlier call deleted before it was killed. If there are
        any, `dvc add collected` and a commit must follow.

    Raises:
        PipelineError: a list cannot be read.
        OSError: a file cannot be written or deleted.
    """
    photos, entries = collected.load(), load()
    unwanted = {*ids, *_of_requests(photos, request_ids)}
    found = [photo for photo in photos if photo.id in unwanted]
    files = [path for path, name in collected.files().items() if name in unwanted]
    for path in files:
        (collected.FOLDER / path).unlink()
    decided = [entries[name] for name in sorted(unwanted & entries.keys())]
    if decided:
        append(dataclasses.replace(entry, time=now(), decision="undo", label="") for entry in decided)
    if found:  # last: a second call finds the photos of the requests in the list, if this one was killed
        collected.save([photo for photo in photos if photo not in found])
    return [collected.FOLDER / path for path in sorted({*files, *(photo.path for photo in found)})]
