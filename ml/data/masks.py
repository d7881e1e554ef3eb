"""Masks mark the regions of a photo. Segmentation data sets store them beside the photos."""

import re
from collections.abc import Sequence
from pathlib import PurePosixPath

IMAGE_FOLDERS = {"images", "image", "imgs", "img", "photos", "pictures", "jpegimages"}
"""Folders of photos, whose names say nothing of what they show."""
MASK_FOLDERS = {"labels", "masks", "annotations", "segmentations", "segmentation", "trimaps"}
"""Folders of masks, if only folders of photos are beside them, or if nearly all of their pictures have the
names of photos: `segmentations/cat/1.png` beside `images/cat/1.jpg`, `cat/masks/1.png` beside `cat/1.jpg`."""
_MATCHED = 0.9
_MASK = re.compile(r"(.+?)[_\- ]mask([_\- ]?\d+)?", re.IGNORECASE)
_SUFFIXES = {".png", ".gif", ".bmp", ".tif", ".tiff"}
"""Formats in which masks are stored: a .jpg called mask may be a photo of one."""


def without_masks(photos: Sequence[PurePosixPath]) -> list[PurePosixPath]:
    """Leave out folders of masks, see MASK_FOLDERS, and `1_mask.png` beside `1.png`."""
    names = {(photo.parent, photo.stem) for photo in photos}
    folders = {folder for parent, _ in names for folder in (parent, *parent.parents) if folder.name}
    beside: dict[PurePosixPath, set[str]] = {}
    for folder in folders:
        beside.setdefault(folder.parent, set()).add(folder.name.lower())
    may_be = {folder for folder in folders if folder.name.lower() in MASK_FOLDERS}
    masks = {
        folder
        for folder in may_be
        if IMAGE_FOLDERS & beside[folder.parent] and beside[folder.parent] <= IMAGE_FOLDERS | MASK_FOLDERS
    }
    masks |= _named_like_photos(photos, may_be) if may_be else set()

    def is_mask(photo: PurePosixPath) -> bool:
        match = _MASK.fullmatch(photo.stem) if photo.suffix.lower() in _SUFFIXES else None
        return bool(match and (photo.parent, match[1]) in names) or bool(
            masks and not masks.isdisjoint(photo.parents)
        )

    return [photo for photo in photos if not is_mask(photo)]


def _named_like_photos(photos: Sequence[PurePosixPath], may_be: set[PurePosixPath]) -> set[PurePosixPath]:
    """Return the folders whose pictures have the names of photos outside, but other suffixes."""
    masks: dict[PurePosixPath, list[PurePosixPath]] = {}
    others: set[tuple[PurePosixPath | str, str]] = set()
    for photo in photos:
        folder = next((one for one in photo.parents if one in may_be), None)
        if folder:
            masks.setdefault(folder, []).append(photo)
        elif photo.suffix.lower() not in _SUFFIXES:
            others.add((photo.parent, photo.stem))
            if not IMAGE_FOLDERS.isdisjoint(outer.name.lower() for outer in photo.parent.parents):
                others.add((photo.parent.name, photo.stem))

    def has_photo(mask: PurePosixPath, folder: PurePosixPath) -> bool:
        where = folder.parent if mask.parent == folder else mask.parent.name
        return mask.suffix.lower() in _SUFFIXES and (where, mask.stem) in others

    return {
        folder
        for folder, inside in masks.items()
        if sum(has_photo(mask, folder) for mask in inside) >= _MATCHED * len(inside)
    }
