"""Decides which files count as photos, in the same way for every command that reads folders."""

import os
import stat
from collections.abc import Callable
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
    """Return whether a link may be a photo: it doesn't give another file the suffix of one.

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


def read(path: str | Path, max_bytes: int = MAX_PHOTO_BYTES) -> bytes:
    """Return the content of a photo.

    Raises:
        UnreadablePhotoError: it is no file, or larger than `max_bytes`.
        OSError: it can't be read.
    """
    # A named pipe would block, and a device would never end.
    flags = os.O_RDONLY | getattr(os, "O_NONBLOCK", 0) | getattr(os, "O_BINARY", 0)
    with os.fdopen(os.open(path, flags), "rb") as file:
        status = os.fstat(file.fileno())
        if not stat.S_ISREG(status.st_mode):
            raise UnreadablePhotoError("not a file")
        check_size(status.st_size, max_bytes)
        return file.read(status.st_size)  # `max_bytes` would reserve as much memory for each photo


def check_size(size: int, max_bytes: int = MAX_PHOTO_BYTES) -> None:
    """Raise UnreadablePhotoError for a file that is too large."""
    if size > max_bytes:
        raise UnreadablePhotoError(f"larger than {max_bytes >> 20} MB")


def find(path: Path) -> list[Path]:
    """Return the photos in a folder and its subfolders, sorted; a file itself, whatever it is.

    Raises:
        FileNotFoundError: there is no such file or folder.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    if not path.is_dir():
        return [path]
    files = (file for file in path.rglob("*") if file.is_file())
    return sorted(file for file in files if is_photo(file.relative_to(path), partial(head, file)))
