"""Decode the photos of data/raw, split them into train, val and test, and drop duplicates.

Writes data/processed, and a report of the dropped photos to reports/prepare.
"""

import argparse
import csv
import dataclasses
import hashlib
import json
import math
import shutil
import tempfile
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw
from tqdm import tqdm

from ml import params as parameters
from ml.data.dataset import FOLDER, IMAGES, SPLITS
from ml.data.ingest import OWN_SPLITS, RAW
from ml.model.errors import PipelineError
from ml.model.host import available_cpus
from ml.model.image import ImageError, TooManyPixelsError, UnsupportedImageError, read
from ml.params import Prepare
from ml.paths import PREPARE_REPORT

EXAMPLE = "python -m ml prepare"
MIN_PHOTOS = 10
"""Smallest number of photos per class that can be split in three."""

_HASH_SIDE = 16
_FLAT = 4.0  # standard deviation of the grey levels below which a difference hash is noise
_FEW = 32  # with fewer ones or zeros (a gradient, an object on white), hashes of different photos agree
_SHEET_CLASSES = 50  # a JPEG is at most 65,535 pixels high
_EVALUATED_FIRST = ("test", "val", "train")
_REASONS = {UnsupportedImageError: "unsupported", TooManyPixelsError: "too_many_pixels"}


@dataclasses.dataclass(frozen=True)
class Photo:
    """A decoded photo, or one that was dropped.

    Attributes:
        path: class/file.
        row: in the array of decoded photos.
        sha256: of the file.
        split: where it belongs; empty: not decided yet, or the file cannot be read.
        pixels_sha256: of the pixels.
        size: width and height of the whole upright photo, in pixels.
        reason: why it was dropped, one word; empty: it was not.
        detail: explains the reason.
    """

    path: str
    row: int
    sha256: str = ""
    split: str = ""
    pixels_sha256: str = ""
    size: tuple[int, int] = (0, 0)
    reason: str = ""
    detail: str = ""

    @property
    def label(self) -> str:
        """The class: the name of the folder."""
        return self.path.split("/", 1)[0]

    def drop(self, reason: str, detail: str) -> "Photo":
        """Return the photo with a reason to drop it."""
        return dataclasses.replace(self, reason=reason, detail=detail)


@dataclasses.dataclass(frozen=True)
class PrepareReport:
    """Counts of the kept photos by class and split, and of the dropped photos by reason."""

    kept: dict[str, dict[str, int]]
    dropped: dict[str, int]


def run(params: Prepare, raw: Path = RAW, out: Path = FOLDER, report: Path = PREPARE_REPORT) -> PrepareReport:
    """Decode the photos of `raw`, which has one folder per class, into `out`, and write `report`.

    Raises:
        PipelineError: there are no photos, fewer than two classes, or too few photos of a class; or a worker
            process was killed.
    """
    classes = sorted(p.name for p in raw.glob("[!.]*") if p.is_dir())
    paths = sorted(f"{name}/{p.name}" for name in classes for p in (raw / name).glob("[!.]*") if p.is_file())
    if not paths:
        raise PipelineError(f"no photos in {raw}: run `dvc repro`, or `python -m ml ingest` first")
    shutil.rmtree(report, ignore_errors=True)
    report.mkdir(parents=True)
    out.mkdir(parents=True, exist_ok=True)
    size = params.image_size
    with tempfile.TemporaryFile(dir=out) as scratch:
        pixels = np.memmap(scratch, np.uint8, "w+", shape=(len(paths), size, size, 3))
        photos = _decode_all(params, raw, paths, pixels)
        own = _own_splits(raw)
        photos = _drop_duplicates(_split(params, photos, own), keep_evaluated=bool(own))
        photos = _drop_near_duplicates(photos, pixels, params.near_duplicate_bits)
        kept = [photo for photo in photos if not photo.reason]
        result = _count(kept, photos, classes)
        _write_report(report, photos, result)
        _check(result)
        # An interruption from here on leaves no data set, rather than files of two data sets.
        (out / SPLITS).unlink(missing_ok=True)
        # Under another name first, so that a process which still reads the old photos can go on.
        unfinished = out / f".{IMAGES}.part"
        array = np.lib.format.open_memmap(unfinished, "w+", np.uint8, (len(kept), size, size, 3))
        for number, photo in enumerate(kept):
            array[number] = pixels[photo.row]
        array.flush()
        unfinished.replace(out / IMAGES)
        index = {
            "classes": classes,
            "image_size": size,
            "resize": params.resize,
            "photos": [
                {
                    "path": photo.path,
                    "label": classes.index(photo.label),
                    "split": photo.split,
                    "sha256": photo.sha256,
                    "size": photo.size,
                }
                for photo in kept
            ],
        }
        (out / SPLITS).write_text(json.dumps(index, indent=0, ensure_ascii=False), "utf-8")
        _contact_sheet(array, kept, classes, report / "contact_sheet.jpg")
    return result


def _decode(params: Prepare, raw: Path, row: int, path: str) -> tuple[Photo, NDArray[np.uint8] | None]:
    """Decode one file in a worker process, without raising for bad files."""
    photo = Photo(path, row)
    try:
        data = (raw / path).read_bytes()
        sha256 = hashlib.sha256(data).hexdigest()
        photo = dataclasses.replace(photo, sha256=sha256)
        decoded = read(data, params.image_size, params.resize)
    except ImageError as error:
        return photo.drop(_REASONS.get(type(error), "broken"), str(error)), None
    except OSError as error:
        return photo.drop("unreadable", str(error.strerror)), None
    except MemoryError:
        return photo.drop("unreadable", "not enough memory"), None
    digest = hashlib.sha256(decoded.pixels.data).hexdigest()
    size = (decoded.width, decoded.height)
    return dataclasses.replace(photo, pixels_sha256=digest, size=size), decoded.pixels


def _decode_all(params: Prepare, raw: Path, paths: list[str], pixels: NDArray[np.uint8]) -> list[Photo]:
    photos = []
    try:
        with ProcessPoolExecutor(available_cpus()) as pool:
            results = pool.map(partial(_decode, params, raw), range(len(paths)), paths, chunksize=16)
            for photo, content in tqdm(results, "decode", len(paths)):
                if content is not None:
                    pixels[photo.row] = content
                photos.append(photo)
    except BrokenProcessPool as error:
        raise PipelineError("a decoding process was killed, probably because memory ran out") from error
    return photos


def _own_splits(raw: Path) -> dict[str, str]:
    """Return the split of each photo, by class/file, if the owner of the photos has split them."""
    path = raw / OWN_SPLITS
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def _split(params: Prepare, photos: list[Photo], own: dict[str, str]) -> list[Photo]:
    """Decide the split of each photo that can be used.

    It depends on the content of the photo: with more photos, none moves, except where a class has so few that
    chance would leave a split nearly empty. Then the photos of the next hashes move there. Photos that the
    owner has put into a split stay there; splits that he doesn't have are drawn from his training photos.
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


def _drop_duplicates(photos: list[Photo], keep_evaluated: bool) -> list[Photo]:
    """Keep one of each group of equal photos; none if they are in two classes: one label must be wrong.

    With `keep_evaluated` it is one in test if there is one there, or else one in val.
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
            best = min(group, key=lambda photo: _EVALUATED_FIRST.index(photo.split)).split
            first, *rest = sorted(
                group,
                key=lambda photo: (keep_evaluated and photo.split != best, photo.sha256, photo.path),
            )
            for photo in rest:
                dropped[photo.path] = photo.drop("duplicate", f"same as {first.path}")
    return [dropped.get(photo.path, photo) for photo in photos]


def _drop_near_duplicates(photos: list[Photo], pixels: NDArray[np.uint8], max_bits: int) -> list[Photo]:
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
            stays, goes = sorted(pair, key=lambda photo: _EVALUATED_FIRST.index(photo.split))
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


def _count(kept: list[Photo], photos: list[Photo], classes: list[str]) -> PrepareReport:
    table = {name: {"train": 0, "val": 0, "test": 0} for name in classes}
    for photo in kept:
        table[photo.label][photo.split] += 1
    return PrepareReport(table, dict(Counter(photo.reason for photo in photos if photo.reason)))


def _check(result: PrepareReport) -> None:
    if len(result.kept) < 2:
        raise PipelineError(f"there is only one class, {', '.join(result.kept)}; at least two are needed")
    for name, splits in result.kept.items():
        if sum(splits.values()) < MIN_PHOTOS:
            raise PipelineError(
                f"class {name!r} has {sum(splits.values())} usable photos, at least {MIN_PHOTOS} are needed; "
                f"dropped in all classes: {result.dropped or 'none'}"
            )
        if empty := [split for split, count in splits.items() if not count]:
            raise PipelineError(f"class {name!r} has no photo in {' and '.join(empty)}: add photos of it")


def _write_report(report: Path, photos: list[Photo], result: PrepareReport) -> None:
    (report / "report.json").write_text(json.dumps(dataclasses.asdict(result), indent=2) + "\n", "utf-8")
    with (report / "dropped.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "reason", "detail"])
        table.writerows([photo.path, photo.reason, photo.detail] for photo in photos if photo.reason)


def _contact_sheet(images: NDArray[np.uint8], kept: list[Photo], classes: list[str], path: Path) -> None:
    """Draw some photos of each class and split, so that a person sees what the network gets."""
    groups: dict[tuple[str, str], list[int]] = {
        (name, split): [] for name in classes[:_SHEET_CLASSES] for split in _EVALUATED_FIRST
    }
    for row, photo in enumerate(kept):
        groups.get((photo.label, photo.split), []).append(row)
    side, margin, columns = 96, 110, 10
    sheet = Image.new("RGB", (margin + columns * side, len(groups) * side), "white")
    draw = ImageDraw.Draw(sheet)
    for line, ((name, split), rows) in enumerate(groups.items()):
        draw.text((6, line * side + side // 2 - 12), f"{name}\n{split}", "black")
        for column, row in enumerate(rows[:columns]):
            thumbnail = Image.fromarray(images[row]).resize((side, side))
            sheet.paste(thumbnail, (margin + column * side, line * side))
    sheet.save(path, quality=85)


def main(arguments: argparse.Namespace) -> None:
    """Run the stage."""
    run(parameters.load().prepare)
