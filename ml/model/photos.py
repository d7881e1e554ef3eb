"""Which files are taken for photos: one list of suffixes for every command that reads folders."""

from pathlib import Path, PurePath

SUFFIXES = frozenset({".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp"})
"""Usual suffixes of the formats that `ml.model.image` decodes, in lower case. Decoding goes by content."""

_OF_SYSTEMS = {"__MACOSX", "@eaDir", "#recycle", "lost+found", "$RECYCLE.BIN", "System Volume Information"}


def is_photo(path: PurePath) -> bool:
    """Return whether a path, relative to the folder that is read, has a photo's suffix and is not hidden."""
    return path.suffix.lower() in SUFFIXES and is_visible(path)


def is_visible(path: PurePath) -> bool:
    """Return whether no part of a relative path is hidden or belongs to a system."""
    return not any(part.startswith(".") or part in _OF_SYSTEMS for part in path.parts)


def find(path: Path) -> list[Path]:
    """Return the photos in a folder and its subfolders, sorted; a file itself, whatever its suffix.

    Raises:
        FileNotFoundError: there is no such file or folder.
    """
    if not path.exists():
        raise FileNotFoundError(f"there is no file or folder {path}")
    if not path.is_dir():
        return [path]
    return sorted(file for file in path.rglob("*") if is_photo(file.relative_to(path)) and file.is_file())
