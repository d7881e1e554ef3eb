"""Copies of the default model: other files with the same answers, and one whose classes are swapped."""

import shutil
import zipfile
from pathlib import Path

from app.settings import EMBEDDED
from scripts.looping.swapped import swap


def same(path: Path) -> Path:
    """Write a model with the same answers into another file."""
    shutil.copy(EMBEDDED, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = path.name.encode()
    return path


def swapped(path: Path) -> Path:
    """Write a model that calls each class by the name of another one."""
    return swap(EMBEDDED, path)
