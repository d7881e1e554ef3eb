"""Photos that are in the data set more than once, equal or nearly so."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.data.photo import EVALUATED_FIRST, Photo

_HASH_SIDE = 16
_FLAT = 4.0  # standard deviation of the grey levels below which a difference hash is noise
_FEW = 32  # with fewer ones or zeros (a gradient, an object on white), hashes of different photos agree


def drop_duplicates(photos: list[Photo], keep_evaluated: bool) -> list[Photo]:
    """Keep one of each group of equal photos; none if they are in two classes: one label must be wrong.

    With `keep_evaluated`, one in test is kept if there is one, or else one in val.
    """
    groups: dict[str, list[Photo]] = {}
    for photo in photos:
        if not photo.reason:
            groups.setdefault(photo.pixels_sha256, []).append(photo)
    dropped = {}
    for group in groups.values():
        if len({photo.label for photo in group}) > 1:
            for photo in group:
                other = next(p for p in group if p.label != photo.label)
                dropped[photo.path] = photo.drop("label_conflict", f"same as {other.path}")
        else:
            best = min(group, key=lambda photo: EVALUATED_FIRST.index(photo.split)).split
            first, *rest = sorted(
                group,
                key=lambda photo: (keep_evaluated and photo.split != best, photo.sha256, photo.path),
            )
            for photo in rest:
                dropped[photo.path] = photo.drop("duplicate", f"same as {first.path}")
    return [dropped.get(photo.path, photo) for photo in photos]


def drop_near_duplicates(photos: list[Photo], pixels: NDArray[np.uint8], max_bits: int) -> list[Photo]:
    """Drop photos that nearly equal one in another split; of a pair, the one in the evaluated split stays."""
    if max_bits < 0:
        return photos
    candidates = sorted((photo for photo in photos if not photo.reason), key=lambda photo: photo.sha256)
    hashed = [
        (photo, bits) for photo in candidates if (bits := _difference_hash(pixels[photo.row])) is not None
    ]
    dropped: dict[str, Photo] = {}
    codes = np.array([bits for _, bits in hashed])
    for i, (photo, _) in enumerate(hashed[:-1]):
        distance = np.bitwise_count(codes[i + 1 :] ^ codes[i]).sum(1, dtype=np.int64)
        for j in np.flatnonzero(distance <= max_bits) + i + 1:
            pair = (photo, hashed[j][0])
            stays, goes = sorted(pair, key=lambda photo: EVALUATED_FIRST.index(photo.split))
            if stays.split != goes.split:
                dropped[goes.path] = goes.drop("near_duplicate", f"nearly {stays.path}")
    return [dropped.get(photo.path, photo) for photo in photos]


def _difference_hash(pixels: NDArray[np.uint8]) -> NDArray[np.uint64] | None:
    """Return 256 bits, uint64 [4]: where the grey level rises to the right; None if they are noise."""
    small = Image.fromarray(pixels).convert("L").resize((_HASH_SIDE + 1, _HASH_SIDE), Image.Resampling.BOX)
    grey = np.asarray(small, np.int16)
    if grey.std() < _FLAT:
        return None
    rises = grey[:, 1:] > grey[:, :-1]
    if not _FEW < rises.sum() < rises.size - _FEW:
        return None
    return np.packbits(rises).view(np.uint64)
