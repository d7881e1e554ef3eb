"""Photos whose labels are known, from a folder, a .zip or its URL."""

import random
from itertools import zip_longest
from pathlib import Path

from common import photos

from ml.errors import PipelineError


def labelled(data: str, folder: Path) -> tuple[Path, list[photos.Photo]]:
    """Return the root of the photos and those that have a label; say what is left out.

    Args:
        data: a folder, a .zip or its URL.
        folder: where a .zip is unpacked.

    Raises:
        PipelineError: there are none, or the .zip is broken or hostile.
    """
    root = Path(data)
    if not root.is_dir():
        from ml import ingest
        from ml.params import Ingest

        root = folder / "photos"
        ingest.run(Ingest(source=data), root, folder / "cache")
    found = [photo for photo in photos.find([root]) if photo.label]
    others = sum(1 for file in root.rglob("*") if file.is_file()) - len(found)
    if others:
        print(f"left out: {others} files that are no photos by their name, hidden or in no class's folder")
    if not found:
        raise PipelineError(f"{data}: no photos in folders, one a class")
    return root, found


def drawn(found: list[photos.Photo], count: int) -> list[photos.Photo]:
    """Return so many of the photos, as evenly from the classes as these allow; always the same."""
    by_class: dict[str | None, list[photos.Photo]] = {}
    for photo in random.Random(1).sample(found, len(found)):  # noqa: S311
        by_class.setdefault(photo.label, []).append(photo)
    in_turn = [photo for some in zip_longest(*by_class.values()) for photo in some if photo]
    return sorted(in_turn[:count], key=lambda photo: photo.path)
