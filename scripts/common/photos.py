"""Photos with the labels of their folders."""

import argparse
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from ml.model import photos
from ml.model.image import ImageError, decode


@dataclass(frozen=True)
class LabelledPhoto:
    """A file that should be a photo."""

    path: Path
    label: str | None  # its class: the name of its folder inside the requested folder; None: not known


def find(paths: Iterable[Path]) -> list[LabelledPhoto]:
    """Return the photos among files and in folders, each folder's in order.

    Raises:
        FileNotFoundError: there is no such file or folder.
    """
    labelled = []
    for path in paths:
        for file in photos.find(path):
            parts = file.relative_to(path).parts
            labelled.append(LabelledPhoto(file, parts[0] if len(parts) > 1 else None))
    return labelled


def decodable(parser: argparse.ArgumentParser, paths: Iterable[Path], most: int | None = None) -> list[bytes]:
    """Return the first photos among files and in folders; end with the parser's error if one is broken."""
    try:
        contents = [photo.path.read_bytes() for photo in find(paths)[:most]]
        for content in contents:
            decode(content)
    except (OSError, ImageError) as error:
        parser.error(f"a photo cannot be used: {error}")
    if not contents:
        parser.error("there are no photos in these folders")
    return contents
