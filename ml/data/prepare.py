"""Decode the photos of data/raw, split them into train, val and test, and drop duplicates.

Writes data/processed, and a report of the dropped photos to reports/prepare.
"""

import argparse
import csv
import dataclasses
import hashlib
import json
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
from ml.cli import say
from ml.data.dataset import FOLDER, IMAGES, SPLITS
from ml.data.duplicates import drop_duplicates, drop_near_duplicates
from ml.data.ingest import RAW
from ml.data.photo import EVALUATED_FIRST, Photo
from ml.data.splits import assign_splits, own_splits
from ml.model.errors import PipelineError
from ml.model.files import reserve
from ml.model.host import available_cpus
from ml.model.image import ImageError, TooManyPixelsError, UnsupportedImageError, read
from ml.params import Prepare
from ml.paths import PREPARE_REPORT

EXAMPLE = "python -m ml prepare"
MIN_PHOTOS = 10
"""Smallest number of photos per class that can be split in three."""

DROPPED = "dropped.csv"
"""File in the report that lists the dropped photos."""

_SHEET_CLASSES = 50  # a JPEG is at most 65,535 pixels high
_REASONS = {UnsupportedImageError: "unsupported", TooManyPixelsError: "too_many_pixels"}


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
        reserve(scratch, len(paths) * size * size * 3)
        pixels = np.memmap(scratch, np.uint8, "w+", shape=(len(paths), size, size, 3))
        photos = _decode_all(params, raw, paths, pixels)
        own = own_splits(raw)
        photos = drop_duplicates(assign_splits(params, photos, own), keep_evaluated=bool(own))
        photos = drop_near_duplicates(photos, pixels, params.near_duplicate_bits)
        kept = [photo for photo in photos if not photo.reason]
        result = _count(kept, photos, classes)
        _write_report(report, photos, result)
        _check(result)
        # Under another name first, so that a process which still reads the old photos can go on.
        unfinished = out / f".{IMAGES}.part"
        try:
            array = np.lib.format.open_memmap(unfinished, "w+", np.uint8, (len(kept), size, size, 3))
            with unfinished.open("r+b") as file:
                reserve(file, unfinished.stat().st_size)
            for number, photo in enumerate(kept):
                array[number] = pixels[photo.row]
            array.flush()
            # An interruption from here on leaves no data set, rather than files of two data sets.
            (out / SPLITS).unlink(missing_ok=True)
            unfinished.replace(out / IMAGES)
        finally:
            unfinished.unlink(missing_ok=True)
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
    with (report / DROPPED).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "reason", "detail"])
        table.writerows([photo.path, photo.reason, photo.detail] for photo in photos if photo.reason)


def _contact_sheet(images: NDArray[np.uint8], kept: list[Photo], classes: list[str], path: Path) -> None:
    """Draw some photos of each class and split, so that a person sees what the network gets."""
    groups: dict[tuple[str, str], list[int]] = {
        (name, split): [] for name in classes[:_SHEET_CLASSES] for split in EVALUATED_FIRST
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
    """Run the stage, and print how many photos it kept and dropped."""
    report = run(parameters.load().prepare)
    for name, splits in report.kept.items():
        say(f"{name}: {', '.join(f'{split} {count:,}' for split, count in splits.items())}")
    if report.dropped:
        reasons = ", ".join(
            f"{count:,} {reason.replace('_', ' ')}" for reason, count in report.dropped.items()
        )
        say(f"dropped: {reasons}; {PREPARE_REPORT / DROPPED} lists them")
