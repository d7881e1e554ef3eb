"""Decides which files count as photos, in the same way for every command that reads folders."""

from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePath

from ml.model import formats
from ml.model.formats import SUFFIXES

__all__ = ["SUFFIXES", "find", "head", "is_photo", "is_visible"]

_OF_SYSTEMS = {"__MACOSX", "@eaDir", "#recycle", "lost+found", "$RECYCLE.BIN", "System Volume Information"}


def is_photo(path: PurePath, head: Callable[[], bytes]) -> bool:
    """Return whether a file is visible, and has a photo's suffix or begins as a photo does.

    A file that only has the suffix is a photo too, so that it gets an error and isn't passed over.

    Args:
        path: relative to the folder that is read.
        head: returns the first bytes of the file, `formats.HEAD_BYTES` of them.
    """
    return is_visible(path) and (path.suffix.lower() in SUFFIXES or formats.is_photo(head()))


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
