"""Masks: pictures that say what is where in a photo, and lie in the data sets of segmentation beside it."""

import re
from collections.abc import Iterator, Sequence
from pathlib import PurePosixPath

IMAGE_FOLDERS = {"images", "image", "imgs", "img", "photos", "pictures", "jpegimages"}
"""Folders of photos, whose names say nothing of what they show."""
MASK_FOLDERS = {"labels", "masks", "annotations"}
"""Folders of masks, if they are beside one of photos."""
_MASK = re.compile(r"(.+?)[_\- ]mask([_\- ]?\d+)?", re.IGNORECASE)


def without_masks(photos: Sequence[PurePosixPath]) -> list[PurePosixPath]:
    """Leave out `masks/1.png` beside `images/1.png`, and `1_mask.png` beside `1.png`."""
    names = {(photo.parent, photo.stem) for photo in photos}
    shown = {place for photo in photos for place in _places(photo, IMAGE_FOLDERS)}
    return [
        photo
        for photo in photos
        if shown.isdisjoint(_places(photo, MASK_FOLDERS))
        and ((match := _MASK.fullmatch(photo.stem)) is None or (photo.parent, match[1]) not in names)
    ]


def _places(photo: PurePosixPath, names: set[str]) -> Iterator[tuple[object, ...]]:
    """Yield the path of a photo without each folder of these names, and without its suffix."""
    for index, part in enumerate(photo.parts[:-1]):
        if part.lower() in names:
            match = _MASK.fullmatch(photo.stem)
            yield photo.parts[:index], photo.parts[index + 1 : -1], match[1] if match else photo.stem
