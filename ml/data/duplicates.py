"""Photos that are in the data set more than once, equal or nearly so."""

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.data.hamming import Codes, first_near
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
                dropped[photo.path] = photo.drop("label_conflict", f"same as {other.path}", other.path)
        else:
            best = min(group, key=lambda photo: EVALUATED_FIRST.index(photo.split)).split
            first, *rest = sorted(
                group,
                key=lambda photo: (keep_evaluated and photo.split != best, photo.sha256, photo.path),
            )
            for photo in rest:
                dropped[photo.path] = photo.drop("duplicate", f"same as {first.path}", first.path)
    return [dropped.get(photo.path, photo) for photo in photos]


def drop_near_duplicates(photos: list[Photo], max_bits: int) -> list[Photo]:
    """Drop photos that nearly equal one in another split; of a pair, the one in the evaluated split stays.

    A photo that is dropped drops no other.
    """
    if max_bits < 0:
        return photos
    hashed = [photo for photo in photos if photo.code and not photo.reason]
    # Of several near photos, the one with the largest hash is reported, whatever the order of the files.
    hashed.sort(key=lambda photo: photo.sha256, reverse=True)
    dropped: dict[str, Photo] = {}
    for number, split in enumerate(EVALUATED_FIRST):
        earlier = EVALUATED_FIRST[:number]
        stay = [photo for photo in hashed if photo.split in earlier and photo.path not in dropped]
        go = [photo for photo in hashed if photo.split == split]
        for photo, row in zip(go, first_near(_codes(go), _codes(stay), max_bits).tolist(), strict=True):
            if row >= 0:
                path = stay[row].path
                dropped[photo.path] = photo.drop("near_duplicate", f"nearly {path}", path)
    return [dropped.get(photo.path, photo) for photo in photos]


def _codes(photos: list[Photo]) -> Codes:
    return np.frombuffer(b"".join(photo.code for photo in photos), np.uint64).reshape(-1, 4)


def difference_hash(pixels: NDArray[np.uint8]) -> bytes:
    """Return 256 bits that say where the grey level rises to the right; nothing if they would be noise."""
    small = Image.fromarray(pixels).convert("L").resize((_HASH_SIDE + 1, _HASH_SIDE), Image.Resampling.BOX)
    grey = np.asarray(small, np.int16)
    if grey.std() < _FLAT:
        return b""
    rises = grey[:, 1:] > grey[:, :-1]
    if not _FEW < rises.sum() < rises.size - _FEW:
        return b""
    return np.packbits(rises).tobytes()
