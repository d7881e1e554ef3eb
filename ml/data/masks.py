"""Masks: pictures that say what is where in a photo, and lie in the data sets of segmentation beside it."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

IMAGE_FOLDERS = {"images", "image", "imgs", "img", "photos", "pictures", "jpegimages"}
"""Folders of photos, whose names say nothing of what they show."""
MASK_FOLDERS = {"labels", "masks", "annotations"}
"""Folders of masks, if only folders of photos are beside them."""
_MASK = re.compile(r"(.+?)[_\- ]mask([_\- ]?\d+)?", re.IGNORECASE)
_SUFFIXES = {".png", ".gif", ".bmp", ".tif", ".tiff"}
"""Formats in which masks are stored: a .jpg called mask may be a photo of one."""


def without_masks(photos: Sequence[PurePosixPath]) -> list[PurePosixPath]:
    """Leave out `masks/1.png` if only `images/` is beside `masks/`, and `1_mask.png` beside `1.png`."""
    names = {(photo.parent, photo.stem) for photo in photos}
    folders = {folder for parent, _ in names for folder in (parent, *parent.parents) if folder.name}
    beside: dict[PurePosixPath, set[str]] = {}
    for folder in folders:
        beside.setdefault(folder.parent, set()).add(folder.name.lower())
    masks = {
        folder
        for folder in folders
        if folder.name.lower() in MASK_FOLDERS
        and IMAGE_FOLDERS & beside[folder.parent]
        and beside[folder.parent] <= IMAGE_FOLDERS | MASK_FOLDERS
    }

    def is_mask(photo: PurePosixPath) -> bool:
        match = _MASK.fullmatch(photo.stem) if photo.suffix.lower() in _SUFFIXES else None
        return bool(match and (photo.parent, match[1]) in names) or bool(
            masks and not masks.isdisjoint(photo.parents)
        )

    return [photo for photo in photos if not is_mask(photo)]
