"""The photos of a source: a folder, a prefix in an object store, or a list of addresses."""

import csv
import io
import os
import re
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePath, PurePosixPath
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
from pyarrow import fs

from ml.cli import note
from ml.model import formats, photos
from ml.model.errors import PipelineError, one_line
from ml.model.photos import UnreadablePhotoError
from ml.scoring import stores

COLUMNS = ("path", "url")
"""A list has one of these columns."""
_LISTS = (".parquet", ".csv")
_ROWS = 1024  # of a list, which are in memory at the same time
_HTTP = ("http", "https")
_PASSWORD = re.compile(r"(https?://)[^/?#]*@", re.IGNORECASE)


def list_photos(source: str) -> Iterator[str]:
    """Yield the path or address of each photo of a source; each is text that Parquet can hold.

    Memory is bounded by the largest folder of an object store, and by the number of folders.

    Args:
        source: a folder, a photo, `s3://BUCKET/PREFIX`, `gs://BUCKET/PREFIX`, or a Parquet or CSV file with a
            column `path` or `url`, whose relative paths are relative to the list.

    Raises:
        PipelineError: the source does not exist, or cannot be read.
    """
    root = canonical(source)
    in_store = stores.scheme(root) in stores.STORES
    try:
        is_folder = _is_folder(root)
        if PurePosixPath(root).suffix.lower() in _LISTS and not is_folder:
            yield from _entries(root)
        elif not is_folder:
            file = Path(root)
            if not in_store and not photos.is_photo(PurePath(file.name), partial(photos.head, file)):
                raise PipelineError(f"{one_line(root)}: neither folder, photo nor list ({', '.join(_LISTS)})")
            yield stores.utf8(root)
        elif in_store:
            yield from _objects(root)
        else:
            yield from map(stores.utf8, photos.files(root))
    except (OSError, ValueError, NotImplementedError) as error:  # the last one: a column of lists
        place = error.filename if isinstance(error, OSError) and error.filename else root
        raise stores.unusable(str(place), error) from error


def canonical(source: str) -> str:
    """Return the name of a source by which a dataset remembers it: an absolute path, or an address.

    Raises:
        PipelineError: it can be no source.
    """
    if not source:
        raise PipelineError("SOURCE is empty")
    try:
        return stores.canonical(source)
    except ValueError as error:
        raise PipelineError(f"{one_line(source)}: {error}") from error


def read_photo(path: str) -> bytes:
    """Return the content of a photo.

    Args:
        path: as `list_photos` yields it.

    Raises:
        UnreadablePhotoError: it does not exist, cannot be read or is too large; the message is one line.
    """
    kind = stores.scheme(path)
    try:
        if kind in _HTTP:
            return _fetch(path)
        if kind in stores.STORES:
            file_system, key = stores.locate(path)
            with file_system.open_input_file(key) as stream:
                photos.check_size(stream.size())
                return bytes(stream.read())
        return photos.read(stores.local_path(path))
    except UnreadablePhotoError:
        raise
    except MemoryError as error:
        raise UnreadablePhotoError("there is not enough memory to read it") from error
    except (OSError, ValueError) as error:
        raise UnreadablePhotoError(stores.explain(error)) from error


def _fetch(url: str) -> bytes:
    from ml.model.http import DownloadError  # takes time and memory: only if needed
    from ml.scoring.fetching import fetch

    try:
        return fetch(url)
    except DownloadError as error:
        raise UnreadablePhotoError(one_line(str(error), 200)) from error


def _is_folder(root: str) -> bool:
    """Return whether a source is a folder, and no file; raise PipelineError if it is neither."""
    if stores.scheme(root) in stores.STORES:
        file_system, path = stores.locate(root)
        kind = file_system.get_file_info(path).type
        is_folder, exists = bool(kind == fs.FileType.Directory), bool(kind != fs.FileType.NotFound)
    else:
        is_folder, exists = os.path.isdir(root), os.path.exists(root)  # noqa: PTH110, PTH112
    if not exists:
        raise PipelineError(f"there is no file or folder {one_line(root)}")
    return is_folder


def _objects(root: str) -> Iterator[str]:
    """Yield the photos below a prefix, folder by folder, because a listing is in memory as a whole."""
    file_system, path = stores.locate(root)
    prefix, folders = f"{stores.scheme(root)}://", [path]
    while folders:
        folder = folders.pop()
        infos = file_system.get_file_info(fs.FileSelector(folder))
        if any(info.path.rstrip("/") == folder for info in infos):  # "a//b", which pyarrow can only list so
            infos = file_system.get_file_info(fs.FileSelector(folder, recursive=True))
        else:
            folders += sorted(
                (info.path for info in infos if info.type == fs.FileType.Directory), reverse=True
            )
        for info in infos:
            relative = PurePosixPath(info.path[len(path) :].lstrip("/"))
            if info.type == fs.FileType.File and photos.is_photo(relative, _head_of(file_system, info.path)):
                yield prefix + info.path


def _head_of(file_system: fs.FileSystem, path: str) -> Callable[[], bytes]:
    def head() -> bytes:
        try:
            with file_system.open_input_file(path) as stream:
                return bytes(stream.read(formats.HEAD_BYTES))
        except (OSError, ValueError):
            return b""

    return head


def _entries(root: str) -> Iterator[str]:
    """Yield the addresses of a list, and say how many rows have none."""
    blank = 0
    folder = root.rpartition("/")[0] if stores.scheme(root) else os.path.dirname(root)  # noqa: PTH120
    with _opened(root) as stream:
        cells = _parquet_cells if root.lower().endswith(".parquet") else _csv_cells
        for cell in cells(root, stream):
            if cell:
                yield _address(cell, folder)
            else:
                blank += 1
    if blank:
        note(f"{one_line(root)}: rows without a path or address, which are passed over: {blank:,}")


def _opened(root: str) -> Any:
    if stores.scheme(root) in stores.STORES:
        file_system, path = stores.locate(root)
        return file_system.open_input_file(path)
    return open(root, "rb")  # noqa: PTH123


def _address(cell: str, folder: str) -> str:
    kind = stores.scheme(cell)
    if kind in _HTTP:
        return _PASSWORD.sub(r"\1", cell)  # which must not be written into the dataset
    if kind:
        return cell
    if stores.scheme(folder):
        return f"{folder}/{cell}"
    return stores.utf8(os.path.join(folder, cell))  # noqa: PTH118


def _column(root: str, names: list[str]) -> str:
    column = next((name for name in COLUMNS if name in names), None)
    if column is None:
        expected = " or ".join(f"`{name}`" for name in COLUMNS)
        present = one_line(", ".join(names), 100)
        raise PipelineError(f"{one_line(root)}: it has no column {expected}, but: {present}")
    return column


def _parquet_cells(root: str, stream: Any) -> Iterator[str | None]:
    table = pq.ParquetFile(stream)
    column = _column(root, table.schema_arrow.names)
    for batch in table.iter_batches(_ROWS, columns=[column]):
        yield from batch.column(0).cast(pa.string()).to_pylist()


def _csv_cells(root: str, stream: Any) -> Iterator[str]:
    with io.TextIOWrapper(stream, "utf-8-sig", newline="") as text:
        # A longer line is cut, and then an error: a file without line breaks must not fill the memory.
        rows = csv.reader(iter(lambda: text.readline(csv.field_size_limit() + 1), ""), strict=True)
        try:
            names = next(rows, [])
            place = names.index(_column(root, names))
            for row in rows:
                if row:
                    yield row[place] if len(row) > place else ""
        except csv.Error as error:
            raise ValueError(f"line {rows.line_num}: {error}") from error
