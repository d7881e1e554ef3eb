"""Copy the photos of params.yaml's ingest.source to data/raw, in one folder per class.

The source is a folder, a .zip or .tar file, its URL, or oxford-pets, which torchvision downloads. The usual
layouts are recognised, see `ml.data.layout`. If the owner has split the photos, data/raw/.splits.json has the
splits. The reviewed photos of the service that collected.csv lists are added.
"""

import argparse
import dataclasses
import json
import shutil
import tarfile
import zlib
from collections import Counter
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from ml import params as parameters
from ml.cli import say
from ml.data import collected, reviewed, sources
from ml.data.collected import CollectedPhoto
from ml.data.download import fetch
from ml.data.layout import Layout, check_class, recognise
from ml.data.locks import locked
from ml.data.splits import OWN_SPLITS
from ml.model.errors import PipelineError, one_line
from ml.model.manifest import MAX_CLASSES
from ml.model.partial import sha256_of
from ml.model.urls import public
from ml.params import Ingest

EXAMPLE = "python -m ml ingest"
RAW = Path("data/raw")
CACHE = Path("data/cache")

OXFORD_PETS = "oxford-pets"
_ARCHIVES = frozenset({".7z", ".bz2", ".gz", ".rar", ".tar", ".tbz2", ".tgz", ".txz", ".xz", ".zip"})
_TEXTS = frozenset({".csv", ".json", ".md", ".tsv", ".txt", ".xml", ".yaml", ".yml"})


@dataclasses.dataclass(frozen=True)
class IngestReport:
    """What was copied.

    Attributes:
        source: as in params.yaml, without secrets.
        layout: how the classes were recognised, for people.
        classes: number of photos per class.
        skipped: number of files that are no photos, by suffix.
        unlabelled: number of photos of no class.
        collected: number of photos that the service collected, among those of the classes.
    """

    source: str
    layout: str
    classes: dict[str, int]
    skipped: dict[str, int] = dataclasses.field(default_factory=dict)
    unlabelled: int = 0
    collected: int = 0


def run(params: Ingest, out: Path = RAW, cache: Path = CACHE, with_collected: bool = True) -> IngestReport:
    """Replace `out` with the photos of the source, as `out`/class/file, once all of them are copied.

    `with_collected` adds the photos of collected.csv.

    Raises:
        PipelineError: the source is missing, damaged or malicious, has fewer than two classes or an empty
            one, cannot be read, or does not fit on the disk; a collected photo is missing or of no class;
            collected.csv changes meanwhile; or another process is replacing `out`.
    """
    source = public(params.source)
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        with locked(out):
            return _run(params, source, out, cache, with_collected)
    except OSError as error:
        raise PipelineError(f"{source}: {error}") from error


def _run(params: Ingest, source: str, out: Path, cache: Path, with_collected: bool) -> IngestReport:
    unfinished = out.with_name(f".{out.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir()
        if params.source == OXFORD_PETS:
            report = _oxford_pets(unfinished, cache)
        else:
            report = _copy_all(source, _file(params, cache), unfinished)
        listed = collected.load() if with_collected else []
        added = _add_collected(listed, source, unfinished)
        report = dataclasses.replace(report, classes=_counted(unfinished), collected=added)
        # Photos may have been deleted meanwhile, and DVC would take the new list for the one that was copied.
        if with_collected and collected.load() != listed:
            raise PipelineError(f"{collected.PATH} changed while this stage ran: run the same command again")
        _swap(unfinished, out)
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return report


def _swap(new: Path, out: Path) -> None:
    """Replace a folder with another; if this is interrupted, the old folder, none or the new one is there."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _file(params: Ingest, cache: Path) -> Path:
    """Return the folder or file that the source names, once it is here."""
    source = params.source
    if source.startswith(("http://", "https://")):
        return fetch(source, cache, params.sha256)
    path = Path(source).expanduser()
    if not path.exists():
        raise PipelineError(f"ingest.source: there is no file or folder {source}")
    if path.is_file() and params.sha256 and sha256_of(path) != params.sha256.lower():
        raise PipelineError(f"{source}: its SHA-256 is not the one in ingest.sha256")
    return path


def _copy_all(name: str, path: Path, out: Path) -> IngestReport:
    with sources.opened(path) as source:
        archives = (path for path in source.skipped if path.suffix.lower() in _ARCHIVES)
        if not source.photos and (inner := next(archives, None)):
            raise PipelineError(f"{name}: no photos, but an archive, {inner}: unpack it, and name its folder")
        layout = recognise(name, [photo.path for photo in source.photos], source.folders, source.tables)
        _check(name, layout, source.skipped)
        sources.check_space(name, source.photo_bytes, out)
        splits, numbers = {}, dict[Path, int]()
        for photo in tqdm(source.photos, "copy"):
            if label := layout.labels.get(photo.path):
                with photo.open() as stream:
                    stored = _store(stream, _class_folder(out, label), photo.path.name, numbers)
                if photo.path in layout.splits:
                    splits[f"{label}/{stored}"] = layout.splits[photo.path]
        if splits:
            (out / OWN_SPLITS).write_text(json.dumps(splits, indent=0, ensure_ascii=False), "utf-8")
        unlabelled = len(source.photos) - len(layout.labels)
        kind = layout.kind + layout.remark
        return IngestReport(name, kind, _counted(out), _suffixes(source.skipped), unlabelled)


def _add_collected(listed: list[CollectedPhoto], source: str, out: Path) -> int:
    """Copy the collected photos of all classes; return their number."""
    photos = [photo for photo in listed if photo.label]
    for photo in photos:
        if not (out / photo.label).is_dir():
            raise PipelineError(
                f"{collected.PATH} has photos of {photo.label!r}, but {source} has no such class: add photos "
                f"of it to the source, or delete its lines from {collected.PATH} and {reviewed.PATH}"
            )
        (out / photo.label / photo.path.name).write_bytes(photo.read())
    return len(photos)


def _counted(out: Path) -> dict[str, int]:
    return {folder.name: len(list(folder.iterdir())) for folder in sorted(out.iterdir()) if folder.is_dir()}


def _check(source: str, layout: Layout, others: Iterable[PurePosixPath]) -> None:
    for name in sorted(layout.empty):
        inside = _suffixes(path for path in others if name in path.parts[:-1])
        # Such as annotations beside the classes of a split.
        if layout.splits and inside.keys() <= _TEXTS:
            continue
        content = f"has no photo, only other files ({_listed(inside)})" if inside else "is empty"
        raise PipelineError(
            f"{source}: class {name!r} {content}: add photos to its folder, or delete the folder"
        )
    for label in layout.classes:
        try:
            check_class(label)
        except ValueError as error:
            raise PipelineError(f"{source}, {layout.kind}: {error}") from error
    if len(layout.classes) > MAX_CLASSES:
        raise PipelineError(
            f"{source}: it has {len(layout.classes):,} classes, but a model has at most {MAX_CLASSES:,}"
        )


def _suffixes(files: Iterable[PurePosixPath]) -> dict[str, int]:
    """Return the number of files by suffix, most frequent first."""
    return dict(Counter(path.suffix.lower() for path in files).most_common())


def _listed(suffixes: dict[str, int]) -> str:
    """Return the numbers of files for people, of the most frequent suffixes."""
    shown = [f"{count:,} {suffix or 'without a suffix'}" for suffix, count in suffixes.items()]
    return one_line(", ".join(shown[:5] + ["..."] * (len(shown) > 5)), 100)


def _class_folder(out: Path, name: str) -> Path:
    folder = out / name
    folder.mkdir(exist_ok=True)
    return folder


def _store(stream: IO[bytes], folder: Path, name: str, numbers: dict[Path, int]) -> str:
    """Copy a photo; if another folder had one of the same name, add a number to it. Return the name.

    Args:
        stream: the content.
        folder: of its class.
        name: of the file.
        numbers: the last number of each name, updated; to try all of them would take quadratic time.
    """
    target = wanted = folder / name
    while target.exists():
        numbers[wanted] = numbers.get(wanted, 1) + 1
        target = wanted.with_stem(f"{wanted.stem}-{numbers[wanted]}")
    with target.open("wb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)
    return target.name


def _oxford_pets(out: Path, cache: Path) -> IngestReport:
    from torchvision.datasets import OxfordIIITPet
    from torchvision.datasets.utils import check_integrity

    folder = cache / "oxford-iiit-pet"  # where torchvision looks for the files
    try:
        for url, md5 in OxfordIIITPet._RESOURCES:
            # torchvision's own download has no limit in time or size.
            name = url.rpartition("/")[2]
            if not check_integrity(folder / name, md5) and not check_integrity(
                fetch(url, folder, name=name), md5
            ):
                raise PipelineError(f"{url}: its MD5 is not the one that torchvision expects")
        parts = [
            OxfordIIITPet(cache, split=split, target_types="binary-category", download=True)
            for split in ("trainval", "test")
        ]
    except (OSError, RuntimeError, ValueError, EOFError, tarfile.TarError, zlib.error) as error:
        raise PipelineError(
            f"{OXFORD_PETS}: the download failed ({error}); run it again, or delete {cache} first"
        ) from error
    for part in parts:
        names = [name.lower() for name in part.bin_classes]
        for file, label in zip(part._images, part._bin_labels, strict=True):
            with Path(file).open("rb") as stream:
                _store(stream, _class_folder(out, names[label]), Path(file).name, {})
    return IngestReport(OXFORD_PETS, "as published", _counted(out))


def main(arguments: argparse.Namespace) -> None:
    """Run the stage and print the number of photos."""
    report = run(parameters.load().ingest)
    counts = ", ".join(f"{name} {count:,}" for name, count in report.classes.items())
    say(f"{report.source} ({report.layout}): {counts}")
    if report.collected:
        say(f"{report.collected:,} of them were collected from the service")
    if report.unlabelled or report.skipped:
        others = sum(report.skipped.values())
        listed = f" ({_listed(report.skipped)})" if others else ""
        say(f"left out: photos without a class {report.unlabelled:,}, other files {others:,}{listed}")
