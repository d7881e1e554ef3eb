"""Decode the photos of data/raw, split them into train, val and test, and drop duplicates.

Obeys label_decisions.csv, which `python -m ml audit` writes. Writes data/processed, and a report of the
dropped photos to reports/prepare.
"""

import argparse
import csv
import dataclasses
import errno
import hashlib
import json
import shutil
import tempfile
from collections import Counter
from pathlib import Path

import numpy as np
from PIL import Image, ImageDraw

from ml import params as parameters
from ml.cli import say
from ml.data import decisions
from ml.data.dataset import FOLDER, SPLITS
from ml.data.decoding import decode_all
from ml.data.duplicates import drop_duplicates, drop_near_duplicates
from ml.data.ingest import RAW
from ml.data.locks import locked
from ml.data.photo import EVALUATED_FIRST, Photo
from ml.data.shards import Shards
from ml.data.splits import assign_splits, own_splits
from ml.model.errors import PipelineError
from ml.model.onnx_model import Images
from ml.params import Params, Prepare
from ml.paths import DROPPED, PREPARE_REPORT

EXAMPLE = "python -m ml prepare"
MIN_PHOTOS = 10
"""Smallest number of photos per class that can be split in three."""

_ALIKE = (
    "; if photos of one camera look alike although they differ, "
    "`python -m ml params prepare.near_duplicate_bits=-1` keeps them"
)
_SHEET_CLASSES = 50  # a JPEG is at most 65,535 pixels high
_IMAGES, _UNFINISHED = "images-", ".unfinished-"


@dataclasses.dataclass(frozen=True)
class PrepareReport:
    """How many photos were kept, dropped and relabelled.

    Attributes:
        kept: by class and split.
        dropped: by reason.
        decided: photos in label_decisions.csv by action, and `absent`: decisions about photos that are not
            here.
    """

    kept: dict[str, dict[str, int]]
    dropped: dict[str, int]
    decided: dict[str, int]


def run(
    params: Prepare,
    raw: Path = RAW,
    out: Path = FOLDER,
    report: Path = PREPARE_REPORT,
    decided: Path = decisions.PATH,
) -> PrepareReport:
    """Decode the photos of `raw`, which has one folder per class, into `out`, and write `report`.

    The photos that `out` held before are deleted first, so that the disk never holds both. An interruption
    leaves no data set.

    Raises:
        PipelineError: there are no photos, fewer than two classes, or too few photos of a class; a decision
            is invalid, or was made meanwhile; a worker process was killed; the disk is full or broken; or
            another process is preparing `out`.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        with locked(out):
            return _run(params, raw, out, report, decided)
    except OSError as error:
        place = error.filename or out
        hint = ": free some space, or lower prepare.image_size" if error.errno == errno.ENOSPC else ""
        raise PipelineError(f"{place}: {error.strerror or error}{hint}") from error


def _run(params: Prepare, raw: Path, out: Path, report: Path, decided: Path) -> PrepareReport:
    by_hash = decisions.load(decided)
    classes = sorted(p.name for p in raw.glob("[!.]*") if p.is_dir())
    paths = sorted(f"{name}/{p.name}" for name in classes for p in (raw / name).glob("[!.]*") if p.is_file())
    if not paths:
        raise PipelineError(f"no photos in {raw}: run `dvc repro`, or `python -m ml ingest` first")
    shutil.rmtree(report, ignore_errors=True)
    report.mkdir(parents=True)
    _delete_photos(out)
    _check_space(out, len(paths), params.image_size)
    # A new name each time: worker processes of a killed run may still write into its folder.
    unfinished = Path(tempfile.mkdtemp(prefix=_UNFINISHED, dir=out))
    try:
        photos, shards = decode_all(params, raw, paths, unfinished)
        own = own_splits(raw)
        # Splits come first: a relabelled or dropped photo moves no other.
        photos, counts = decisions.apply(assign_splits(params, photos, own), by_hash, classes, decided)
        photos = drop_duplicates(photos, keep_evaluated=bool(own))
        photos = drop_near_duplicates(photos, params.near_duplicate_bits)
        kept = [photo for photo in photos if not photo.reason]
        result = _count(kept, photos, classes, counts)
        _write_report(report, photos, result, sorted(set(own.values())))
        _check(result)
        # Named after its content, so that a process which still reads other photos gets an error, not these.
        lines = "\n".join(f"{photo.row} {photo.pixels_sha256}" for photo in photos)
        content = hashlib.sha256(lines.encode())
        folder = out / f"{_IMAGES}{content.hexdigest()[:12]}"
        unfinished.chmod(0o755)  # mkdtemp's folders are private
        unfinished.rename(folder)
    except BaseException:
        shutil.rmtree(unfinished, ignore_errors=True)
        raise
    images = Shards(folder, np.array([photo.row for photo in kept]), params.image_size)
    _contact_sheet(images, kept, classes, report / "contact_sheet.jpg")
    if decisions.load(decided) != by_hash:  # DVC would take the new file for the one that was obeyed
        raise PipelineError(f"{decided} changed while this stage ran: run the same command again")
    _write_index(out, params, classes, kept, folder.name, shards)
    return result


def _delete_photos(folder: Path) -> None:
    """Delete what an earlier run has left; splits.json first, without which a folder is no data set."""
    (folder / SPLITS).unlink(missing_ok=True)
    (folder / "images.npy").unlink(missing_ok=True)  # of version 1.0
    for pattern in (f"{_IMAGES}*", f"{_UNFINISHED}*"):
        for old in folder.glob(pattern):
            shutil.rmtree(old) if old.is_dir() else old.unlink()


def _check_space(folder: Path, photos: int, size: int) -> None:
    needed, free = photos * size * size * 3, shutil.disk_usage(folder).free
    if needed > free:
        raise PipelineError(
            f"{folder}: {photos:,} photos of {size} pixels need {needed / 1e9:.1f} GB, and the disk has "
            f"{free / 1e9:.1f} GB free: free some space, or lower prepare.image_size"
        )


def _write_index(
    out: Path, params: Prepare, classes: list[str], kept: list[Photo], images: str, shards: list[int]
) -> None:
    """Write splits.json, with one line per photo, as the last file of the data set."""
    head = {
        "classes": classes,
        "image_size": params.image_size,
        "resize": params.resize,
        "images": images,
        "shards": shards,
    }
    numbers = {name: number for number, name in enumerate(classes)}
    unfinished = out / f"{_UNFINISHED}{SPLITS}"
    with unfinished.open("w", encoding="utf-8", newline="") as file:
        file.write(json.dumps(head, ensure_ascii=False).removesuffix("}") + ',\n"photos": [')
        for number, photo in enumerate(kept):
            entry = {
                "path": photo.path,
                "label": numbers[photo.label],
                "split": photo.split,
                "sha256": photo.sha256,
                "size": photo.size,
                "row": photo.row,
            }
            file.write(f"{',' if number else ''}\n{json.dumps(entry, ensure_ascii=False)}")
        file.write("\n]}\n")
    unfinished.replace(out / SPLITS)


def _count(
    kept: list[Photo], photos: list[Photo], classes: list[str], decided: dict[str, int]
) -> PrepareReport:
    table = {name: {"train": 0, "val": 0, "test": 0} for name in classes}
    for photo in kept:
        table[photo.label][photo.split] += 1
    dropped = Counter(photo.reason for photo in photos if photo.reason)
    return PrepareReport(table, dict(dropped), decided)


def _check(result: PrepareReport) -> None:
    if len(result.kept) < 2:
        raise PipelineError(f"there is only one class, {', '.join(result.kept)}; at least two are needed")
    alike = _ALIKE if "near_duplicate" in result.dropped else ""
    for name, splits in result.kept.items():
        if sum(splits.values()) < MIN_PHOTOS:
            raise PipelineError(
                f"class {name!r} has {sum(splits.values())} usable photos, at least {MIN_PHOTOS} are needed; "
                f"dropped in all classes: {result.dropped or 'none'}{alike}"
            )
        if empty := [split for split, count in splits.items() if not count]:
            raise PipelineError(
                f"class {name!r} has no photo in {' and '.join(empty)}: add photos of it, to that split if "
                f"the source has its own; dropped in all classes: {result.dropped or 'none'}{alike}"
            )


def _write_report(report: Path, photos: list[Photo], result: PrepareReport, own: list[str]) -> None:
    content = {"kept": result.kept, "dropped": result.dropped, "own_splits": own}
    (report / "report.json").write_text(json.dumps(content, indent=2) + "\n", "utf-8")
    with (report / DROPPED).open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "reason", "detail", "other"])
        dropped = (photo for photo in photos if photo.reason)
        table.writerows([photo.path, photo.reason, photo.detail, photo.other] for photo in dropped)


def _contact_sheet(images: Images, kept: list[Photo], classes: list[str], path: Path) -> None:
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
    """Run the stage, and print how many photos were kept, dropped and relabelled."""
    params = parameters.load()
    report = run(params.prepare.model_copy(update={"image_size": image_size(params)}))
    kept = ", ".join(f"{name} {sum(splits.values()):,}" for name, splits in report.kept.items())
    dropped = ", ".join(f"{reason} {count:,}" for reason, count in sorted(report.dropped.items()))
    say(f"kept: {kept}; dropped: {dropped or 'none'}")
    if dropped:
        say(f"{PREPARE_REPORT / DROPPED} lists the dropped photos")
    if any(report.decided.values()):
        decided = report.decided
        say(
            f"{decisions.PATH}: {decided['relabel']:,} photos relabelled, {decided['drop']:,} dropped, "
            f"{decided['keep']:,} kept; {decided['absent']:,} decisions are about photos that are not here"
        )


def image_size(params: Params) -> int:
    """Return `prepare.image_size`, or the size that suits the architecture if that is 0.

    Raises:
        PipelineError: the library of the architecture is not installed or has no such model.
    """
    if params.prepare.image_size:
        return params.prepare.image_size
    import torch  # it takes seconds

    from ml.model.networks import build

    with torch.device("meta"):  # no weights, and no threads that the worker processes would lack
        return build(params.train.network, 2).image_size
