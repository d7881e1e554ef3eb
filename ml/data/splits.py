"""The split that each photo belongs to."""

import dataclasses
import json
import math
import re
from collections.abc import Collection
from pathlib import Path
from typing import TYPE_CHECKING

from ml.data.photo import Photo

if TYPE_CHECKING:
    from ml.params import Prepare

OWN_SPLITS = ".splits.json"
"""In data/raw: train, val or test of each photo, by class/file, if the owner has split them."""

_NAMES = {
    "train": "train",
    "training": "train",
    "trainval": "train",
    "test": "test",
    "testing": "test",
    "eval": "test",
    "evaluation": "test",
} | dict.fromkeys(("val", "valid", "validation", "dev"), "val")
_NAME = re.compile(
    rf"(?:\w+[_\- ])?({'|'.join(_NAMES)})(?:[_\- ]?(?:set|data|images|photos|input|\d+))*", re.IGNORECASE
)


def split_name(name: str) -> str:
    """Return train, val or test for a name such as training_set; empty: it is something else."""
    match = _NAME.fullmatch(name.strip())
    return _NAMES[match[1].lower()] if match else ""


_BEGINS = re.compile(rf"({'|'.join(sorted(_NAMES, key=len, reverse=True))})(?:[_\- ]+|(?=[A-Z0-9]))(.+)")


def split_names(names: Collection[str]) -> dict[str, str] | None:
    """Return the split of each of several sibling folders, as `split_name`.

    Names may also begin with a split and go on alike: Train_Alphabet, Test_Alphabet. If they go on
    differently, as trainA and testB, they may be classes or not: None.
    """
    splits = {name: split_name(name) for name in names}
    begins = [_BEGINS.fullmatch(name[:1].lower() + name[1:]) for name in names]
    found = [match for match in begins if match]
    words = {_NAMES[match[1]] for match in found}
    if len(found) < len(names) or "train" not in words or len(words) < 2 or any(splits.values()):
        return splits
    if len({match[2] for match in found}) > 1:
        return None
    return {name: _NAMES[match[1]] for name, match in zip(names, found, strict=True)}


def own_splits(raw: Path) -> dict[str, str]:
    """Return the split of each photo, by class/file, if the owner of the photos has split them."""
    path = raw / OWN_SPLITS
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def assign_splits(params: "Prepare", photos: list[Photo], own: dict[str, str]) -> list[Photo]:
    """Decide the split of each photo that can be used.

    The split depends on the content of the photo, so that added photos never move others. The exception is a
    class with so few photos that chance leaves a split nearly empty: it gets the photos with the next hashes.
    Photos that the owner has put into a split stay there. A split that the owner doesn't have is drawn from
    the training photos.
    """
    missing = {"test": params.test_share, "val": params.val_share}
    missing = {split: share for split, share in missing.items() if split not in own.values()}
    splits = dict(own)
    by_class: dict[str, list[Photo]] = {}
    for photo in photos:
        if not photo.reason and own.get(photo.path, "train") == "train":
            by_class.setdefault(photo.label, []).append(photo)
    for group in by_class.values():
        rest = sorted(group, key=lambda photo: (photo.sha256, photo.path))
        begin = 0.0
        for split, share in missing.items():
            begin += share
            drawn = sum(_position(photo) < begin for photo in rest)
            drawn = max(drawn, 1, math.ceil(share * len(group) / 2)) if share else 0
            splits |= dict.fromkeys((photo.path for photo in rest[:drawn]), split)
            rest = rest[drawn:]
        splits |= dict.fromkeys((photo.path for photo in rest), "train")
    return [
        photo if photo.reason else dataclasses.replace(photo, split=splits[photo.path]) for photo in photos
    ]


def _position(photo: Photo) -> float:
    """Return a number from 0 to 1 that depends on the content of the photo's file."""
    return int(photo.sha256[:13], 16) / 16**13
