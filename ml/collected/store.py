"""A store of kept photos, for reading and deleting. Nothing in it is trusted: others may write there, too."""

import contextlib
import hashlib
import re
from collections.abc import Callable, Iterable, Iterator
from typing import Any

import fsspec

from ml.model import kept_photos
from ml.model.errors import PipelineError, one_line
from ml.model.kept_photos import MAX_RECORD_BYTES, Record, RecordError

MAX_KEPT_BYTES = 4 * 1024 * 1024
"""The largest photo that is read: one of 1,024 x 1,024 pixels takes less."""
_DAY = re.compile(r"\d{4}-\d\d-\d\d", re.ASCII)
_OWN = re.compile(r"[0-9a-f]{32}\.(jpg|json)|\.[0-9a-f]{32}\.(jpg|json)\.\d+\.part", re.ASCII)
"""Photos, records, and what a service that is killed while it writes leaves behind."""
_AT_ONCE = 64  # records that are read at the same time


class Collected:
    """A store of kept photos.

    Args:
        address: a folder, `s3://BUCKET/PREFIX` or `gs://BUCKET/PREFIX`.

    Raises:
        PipelineError: it is no such address, or a package is missing.
    """

    def __init__(self, address: str) -> None:
        self.address = address
        try:
            folder = kept_photos.local_folder(address)
            self._files: Any
            self._files, self._root = fsspec.url_to_fs(
                address if folder is None else str(folder.absolute()), use_listings_cache=False
            )
        except (ValueError, ImportError) as error:
            raise PipelineError(f"{one_line(address, 100)}: {one_line(str(error), 200)}") from error

    def days(self) -> list[str]:
        """Return the days that have photos, such as `2026-11-27`, in order.

        Raises:
            PipelineError: the store can't be read, or there is none, or it is a file.
        """
        with self._reported():
            entries = self._files.ls(self._root, detail=True)
        if [entry["name"] for entry in entries if _is_file(entry)] == [self._root]:
            raise PipelineError(f"{one_line(self.address, 100)} is a file")
        folders = [each for each in entries if each["type"] == "directory" and not each.get("islink")]
        return sorted(name for name in map(_name, folders) if _DAY.fullmatch(name))

    def files(self, day: str) -> dict[str, int]:
        """Return the sizes of a day's files by their names: photos, records, and what a killed service left.

        Raises:
            PipelineError: the store can't be read.
        """
        with self._reported():
            try:
                entries = self._files.ls(f"{self._root}/{day}", detail=True)
            except FileNotFoundError:  # deleted meanwhile
                return {}
        sizes = {_name(entry): entry["size"] for entry in entries if _is_file(entry)}
        return {name: size for name, size in sizes.items() if _OWN.fullmatch(name)}

    def records(
        self, days: Iterable[str] | None = None, rejected: Callable[[str, str], None] = lambda *_: None
    ) -> Iterator[Record]:
        """Yield the records, day by day.

        Args:
            days: which days; None: all of them.
            rejected: called with the path of a record that is not valid, and the reason.

        Raises:
            PipelineError: the store can't be read.
        """
        for day in self.days() if days is None else days:
            sizes = self.files(day)
            names = sorted(name for name in sizes if name.endswith(".json"))
            usable = [name for name in names if sizes[name] <= MAX_RECORD_BYTES]
            for name in set(names) - set(usable):
                rejected(f"{day}/{name}", "it is too large")
            for first in range(0, len(usable), _AT_ONCE):
                some = usable[first : first + _AT_ONCE]
                paths = [f"{self._root}/{day}/{name}" for name in some]
                bounds = [0] * len(paths), [MAX_RECORD_BYTES] * len(paths)
                with self._reported():
                    contents = self._files.cat_ranges(paths, *bounds, on_error="return")
                for name, content in zip(some, contents, strict=True):
                    try:
                        if isinstance(content, FileNotFoundError):  # deleted meanwhile
                            continue
                        if not isinstance(content, bytes):
                            raise RecordError("it can't be read")
                        record = Record.from_json(content)
                        if record.path != f"{day}/{name}":
                            raise RecordError("it is about another photo")
                    except RecordError as error:
                        rejected(f"{day}/{name}", str(error))
                    else:
                        yield record

    def photo(self, record: Record) -> bytes:
        """Return a kept photo, an encoded image that is the one that the record is about.

        Raises:
            PipelineError: it can't be read, or it is another one.
        """
        path = f"{self._root}/{record.photo_path}"
        with self._reported():
            entry = self._files.info(path)
            if not _is_file(entry) or entry["size"] > MAX_KEPT_BYTES:
                raise PipelineError(f"{self.address}: {record.photo_path} is not a kept photo")
            content = bytes(self._files.cat_file(path, end=MAX_KEPT_BYTES))
        if hashlib.sha256(content).hexdigest() != record.sha256:
            raise PipelineError(f"{self.address}: {record.photo_path} is not the photo of its record")
        return content

    def delete(self, record: Record) -> None:
        """Delete a photo and its record; see `delete_file` for the error.

        The record is last, so that after a failure the photo is still found by its request id.
        """
        self.delete_file(record.photo_path)
        self.delete_file(record.path)

    def delete_file(self, path: str) -> None:
        """Delete a file, unless it is deleted already.

        Raises:
            PipelineError: it can't be deleted.
        """
        with self._reported(), contextlib.suppress(FileNotFoundError):
            self._files.rm_file(f"{self._root}/{path}")

    def delete_day(self, day: str) -> int:
        """Delete all files of a day; return how many photos there were. Other files stay.

        Raises:
            PipelineError: one of them can't be deleted.
        """
        names = self.files(day)
        for name in sorted(names):
            self.delete_file(f"{day}/{name}")
        with contextlib.suppress(OSError, NotImplementedError):  # not empty; a bucket has no folders
            self._files.rmdir(f"{self._root}/{day}")
        return sum(name.endswith(".jpg") for name in names)

    @contextlib.contextmanager
    def _reported(self) -> Iterator[None]:
        """Translate what a store raises, which may be anything."""
        try:
            yield
        except PipelineError:
            raise
        except Exception as error:
            reason = "there is no such folder" if isinstance(error, FileNotFoundError) else str(error)
            raise PipelineError(f"{self.address}: {one_line(reason, 200)}") from error


def _name(entry: dict[str, Any]) -> str:
    return str(entry["name"]).rstrip("/").rpartition("/")[2]


def _is_file(entry: dict[str, Any]) -> bool:
    return entry["type"] == "file" and not entry.get("islink")
