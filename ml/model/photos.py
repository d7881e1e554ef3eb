"""Decides which files count as photos, in the same way for every command that reads folders."""

import os
import stat
from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path, PurePath

from ml.model import formats
from ml.model.errors import ImageError
from ml.model.formats import SUFFIXES

__all__ = [
    "MAX_PHOTO_BYTES",
    "SUFFIXES",
    "UnreadablePhotoError",
    "check_size",
    "files",
    "find",
    "head",
    "is_photo",
    "is_visible",
    "leads_to_photo",
    "read",
]

MAX_PHOTO_BYTES = 100 << 20
"""The largest file that is read as a photo."""

_OF_SYSTEMS = {"__MACOSX", "@eaDir", "#recycle", "lost+found", "$RECYCLE.BIN", "System Volume Information"}


class UnreadablePhotoError(ImageError):
    """A photo that cannot be read; the message is one line."""


def is_photo(path: PurePath, head: Callable[[], bytes]) -> bool:
    """Return whether a file is visible, and has a photo's suffix or begins as a photo does.

    A file that only has the suffix is a photo too, so that it gets an error and isn't passed over.

    Args:
        path: relative to the folder that is read.
        head: returns the first bytes of the file, `formats.HEAD_BYTES` of them.
    """
    return is_visible(path) and (path.suffix.lower() in SUFFIXES or formats.is_photo(head()))


def leads_to_photo(link: Path) -> bool:
    """Return whether a link may be a photo: its target has the same suffix, or begins as a photo does.

    In a store of files whose names are hashes, as DVC's and those of model hubs, the content tells.
    """
    return link.resolve().suffix.lower() == link.suffix.lower() or formats.is_photo(head(link))


def is_visible(path: PurePath) -> bool:
    """Return whether no part of a relative path is hidden or belongs to a system."""
    return not any(part.startswith(".") or part in _OF_SYSTEMS for part in path.parts)


def head(file: Path) -> bytes:
    """Return the first bytes of a file, which tell its format; none if it can't be read."""
    try:
        with file.open("rb") as stream:
            return stream.read(formats.HEAD_BYTES)
    except OSError:
        return b""


def read(path: str | Path) -> bytes:
    """Return the content of a photo.

    Raises:
        UnreadablePhotoError: it is no file, or larger than `MAX_PHOTO_BYTES`.
        OSError: it can't be read.
    """
    # A named pipe would block, and a device would never end.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UnreadablePhotoError("not a file")
        check_size(status.st_size)
        return file.read(status.st_size)  # `MAX_PHOTO_BYTES` would reserve as much memory for each photo


def check_size(size: int) -> None:
    """Raise UnreadablePhotoError for a file that is too large."""
    if size > MAX_PHOTO_BYTES:
        raise UnreadablePhotoError(f"larger than {MAX_PHOTO_BYTES >> 20} MB")


def find(path: Path) -> list[Path]:
    """Return the photos in a folder and its subfolders, sorted; a file itself, whatever it is.

    Raises:
        FileNotFoundError: there is no such file or folder.
        OSError: a folder can't be read.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    if not path.is_dir():
        return [path]
    return sorted(map(Path, files(str(path))))


def files(root: str) -> Iterator[str]:
    """Yield the photos in a folder and its subfolders.

    Links to folders are followed last, and each folder is read once.

    Raises:
        OSError: a folder can't be read.
    """
    seen: set[tuple[int, int]] = set()
    folders, links = [root], deque[str]()
    while folders or links:
        folder = folders.pop() if folders else links.popleft()
        status = os.stat(folder)  # noqa: PTH116
        if (status.st_dev, status.st_ino) in seen:
            continue
        seen.add((status.st_dev, status.st_ino))
        inner: list[str] = []
        linked: list[str] = []
        with os.scandir(folder) as entries:
            for entry in entries:
                name = PurePath(entry.name)
                if not is_visible(name):
                    continue
                if os.path.isdir(entry):  # noqa: PTH112  (the entry's own method fails for a loop of links)
                    (linked if entry.is_symlink() else inner).append(entry.path)
                elif os.path.isfile(entry) and _is_photo_file(entry, name):  # noqa: PTH113
                    yield entry.path
        folders += sorted(inner, reverse=True)
        links += sorted(linked)


def _is_photo_file(entry: "os.DirEntry[str]", name: PurePath) -> bool:
    """Return whether a file of a folder is a photo; `ml.data.sources` decides in the same way."""
    file = Path(entry.path)
    if entry.is_symlink() and not leads_to_photo(file):
        return False
    return is_photo(name, partial(head, file))
