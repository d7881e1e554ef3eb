"""The files of a source of photos: a folder, a .zip or a .tar, which nobody has looked into."""

import codecs
import contextlib
import lzma
import os
import shutil
import stat
import tarfile
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from ml.model.errors import PipelineError
from ml.model.formats import HEAD_BYTES
from ml.model.photos import MAX_PHOTO_BYTES, is_photo, is_visible, leads_to_photo

_MAX_TABLE_BYTES = 50 << 20
"""Of all tables of labels together."""
_UTF_8 = 0x800  # flag of an entry of a .zip file: its name is in UTF-8

_BROKEN = (
    zipfile.BadZipFile,
    tarfile.TarError,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    RuntimeError,
    ValueError,
)


@dataclass(frozen=True)
class File:
    """A file of a source; `open` returns its content."""

    path: PurePosixPath
    open: Callable[[], IO[bytes]]


@dataclass(frozen=True)
class Source:
    """What a source contains.

    Attributes:
        photos: the files that have a photo's suffix or begin like a photo.
        folders: paths of all visible folders.
        tables: the texts of its .csv and .tsv files, by path.
        skipped: paths of the other files.
        photo_bytes: size of all photos, unpacked.
    """

    photos: list[File]
    folders: list[PurePosixPath]
    tables: dict[str, str]
    skipped: list[PurePosixPath]
    photo_bytes: int


@contextlib.contextmanager
def opened(path: Path) -> Iterator[Source]:
    """Look into a folder, .zip or .tar file (compressed or not); its files can be read within the context.

    Raises:
        PipelineError: it is damaged, encrypted or malicious.
        OSError: it can't be read.
    """
    if path.is_dir():
        yield _source(path, _walk(path))
        return
    try:
        if tarfile.is_tarfile(path):
            with tarfile.open(path) as tar:
                yield _source(path, _tar_entries(path, tar))
        else:
            with zipfile.ZipFile(path) as archive:
                yield _source(path, _zip_entries(path, archive))
    except PipelineError:
        raise
    except _BROKEN as error:
        raise PipelineError(f"{path}: not a valid .zip or .tar file ({error})") from error


@dataclass(frozen=True)
class _Entry:
    path: PurePosixPath
    size: int
    open: Callable[[], IO[bytes]] | None  # None: a folder
    is_other: bool = False  # whatever its name is


def _source(source: Path, entries: Iterable[_Entry]) -> Source:
    found, folders, tables, skipped, photo_bytes = [], [], list[_Entry](), [], 0
    for entry in entries:
        if entry.open is None:
            folders += [entry.path] if is_visible(entry.path) else []
        elif entry.is_other:
            skipped.append(entry.path)
        elif is_photo(entry.path, partial(_head, entry.open)):
            if entry.size > MAX_PHOTO_BYTES:
                raise PipelineError(
                    f"{source}: rejected, an entry has {entry.size:,} bytes: {str(entry.path)!r}"
                )
            found.append(File(entry.path, entry.open))
            photo_bytes += entry.size
        else:
            skipped.append(entry.path)
            if entry.path.suffix.lower() in (".csv", ".tsv") and is_visible(entry.path):
                tables.append(entry)
    return Source(found, folders, _texts(tables), skipped, photo_bytes)


def _texts(tables: Iterable[_Entry]) -> dict[str, str]:
    """Read the tables, the smallest ones first: labels take little space, and others may be too large."""
    texts, left = {}, _MAX_TABLE_BYTES
    for table in sorted(tables, key=lambda table: table.size):
        if table.open and table.size < left:
            left -= table.size
            with table.open() as stream:
                texts[str(table.path)] = _text(stream.read(table.size))
    return texts


def _text(content: bytes) -> str:
    if content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        return content.decode("utf-16", "replace")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("cp1252", "replace")  # as Excel writes them in much of the world


def _head(opener: Callable[[], IO[bytes]]) -> bytes:
    """Return the first bytes of a file; none if it can't be read, so that it isn't taken for a photo."""
    try:
        with opener() as stream:
            return stream.read(HEAD_BYTES)
    except (*_BROKEN, OSError):
        return b""


def _walk(root: Path) -> Iterator[_Entry]:
    """Walk through a folder in order. Links between photos, and once to folders elsewhere, are followed."""
    seen, top = set(), os.path.realpath(root)

    def check(error: OSError) -> None:
        if is_visible(_relative(Path(error.filename), root)):
            raise error

    for folder, folders, names in os.walk(root, onerror=check, followlinks=True):
        real = os.path.realpath(folder)
        if real in seen:  # a link leads back
            folders.clear()
            continue
        seen.add(real)
        inner = Path(folder)
        # A link to a folder of the source adds nothing, and could be taken for a class.
        folders[:] = sorted(name for name in folders if not _leads_into(inner / name, top))
        yield from (_Entry(_relative(inner / name, root), 0, None) for name in folders)
        for name in sorted(names):
            file = inner / name
            is_other = not file.is_file()  # a socket, or a link to nothing or to itself
            if not is_other and file.is_symlink():
                is_other = not leads_to_photo(file)
            size = 0 if is_other else file.stat().st_size
            yield _Entry(_relative(file, root), size, partial(_opened, file), is_other)


def _leads_into(folder: Path, top: str) -> bool:
    return folder.is_symlink() and Path(os.path.realpath(folder)).is_relative_to(top)


def _opened(file: Path) -> IO[bytes]:
    return file.open("rb")


def _relative(path: Path, root: Path) -> PurePosixPath:
    return _named(path.relative_to(root).as_posix())


def _named(name: str) -> PurePosixPath:
    """Return a path in the usual form: macOS decomposes accents, and some names are not UTF-8."""
    return PurePosixPath(unicodedata.normalize("NFC", name.encode(errors="replace").decode()))


def _zip_entries(source: Path, archive: zipfile.ZipFile) -> Iterator[_Entry]:
    for info in archive.infolist():
        name = info.filename if info.flag_bits & _UTF_8 else _as_utf8(info.filename)
        name = name.replace("\\", "/")  # .NET before 4.6.1 separates folders like this
        path, is_folder = _named(name), name.endswith("/")
        _check(source, path, is_link=stat.S_ISLNK(info.external_attr >> 16))
        if info.flag_bits & 1:
            raise PipelineError(f"{source}: rejected, an entry is encrypted: {name!r}")
        yield _Entry(path, info.file_size, None if is_folder else partial(archive.open, info))
        yield from () if is_folder else _parents(path)


def _as_utf8(name: str) -> str:
    """Return a name that zipfile took for code page 437: most programs write UTF-8 without saying so."""
    try:
        return name.encode("cp437").decode()
    except ValueError:
        return name


def _tar_entries(source: Path, tar: tarfile.TarFile) -> Iterator[_Entry]:
    for member in tar.getmembers():
        path = _named(member.name)
        _check(source, path, is_link=member.issym() or member.islnk())
        if member.isdir():
            yield _Entry(path, 0, None)
        elif member.isfile():
            yield _Entry(path, member.size, partial(_extracted, tar, member))
            yield from _parents(path)


def _extracted(tar: tarfile.TarFile, member: tarfile.TarInfo) -> IO[bytes]:
    file = tar.extractfile(member)
    assert file is not None  # it is a file
    return file


def _parents(path: PurePosixPath) -> Iterator[_Entry]:
    return (_Entry(parent, 0, None) for parent in path.parents if parent.parts)


def _check(source: Path, path: PurePosixPath, is_link: bool) -> None:
    faults = {
        "leaves the folder": path.is_absolute() or ".." in path.parts,
        "is a link": is_link,
    }
    for fault, present in faults.items():
        if present:
            raise PipelineError(f"{source}: rejected, an entry {fault}: {str(path)!r}")


def check_space(source: str, size: int, folder: Path) -> None:
    """Raise PipelineError if a folder's disk has less than `size` bytes free."""
    free = shutil.disk_usage(folder).free
    if size > free:
        raise PipelineError(f"{source}: rejected, its photos have {size:,} bytes and only {free:,} are free")
