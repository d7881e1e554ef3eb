"""Photos with known labels, from a folder, a .zip file or its URL."""

import random
from itertools import zip_longest
from pathlib import Path

from ml.model.errors import PipelineError
from scripts.common.photos import Photo, find


def labelled(data: str, folder: Path) -> tuple[Path, list[Photo]]:
    """Return the root folder of the photos, and the photos that have a label; print how many files do not.

    Args:
        data: a folder with one subfolder per class, a .zip file of one, or the URL of such a file.
        folder: a .zip file is unpacked here.

    Raises:
        PipelineError: there are no labelled photos, or the .zip file is damaged or malicious.
    """
    root = Path(data)
    if not root.is_dir():
        from ml.data import ingest
        from ml.params import Ingest

        root = folder / "photos"
        ingest.run(Ingest(source=data), root, folder / "cache")
    photos = [photo for photo in find([root]) if photo.label]
    others = sum(1 for file in root.rglob("*") if file.is_file()) - len(photos)
    if others:
        print(f"left out: {others} files that are hidden, not photos by their names, or in no class's folder")
    if not photos:
        raise PipelineError(f"{data}: there are no photos in folders named for their classes")
    return root, photos


def sample(photos: list[Photo], count: int) -> list[Photo]:
    """Return a sample of the photos, as evenly from the classes as possible; always the same one."""
    by_class: dict[str | None, list[Photo]] = {}
    for photo in random.Random(1).sample(photos, len(photos)):  # noqa: S311
        by_class.setdefault(photo.label, []).append(photo)
    in_turn = [photo for one_per_class in zip_longest(*by_class.values()) for photo in one_per_class if photo]
    return sorted(in_turn[:count], key=lambda photo: photo.path)
