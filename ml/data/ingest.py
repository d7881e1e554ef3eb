"""Copy the photos of params.yaml's ingest.source to data/raw, in one folder per class.

The source is a folder, a .zip file, its URL, or oxford-pets, which torchvision downloads.
"""

import argparse
import contextlib
import dataclasses
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from functools import partial
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from ml import params as parameters
from ml.cli import say
from ml.data.download import fetch
from ml.model.errors import PipelineError
from ml.model.formats import HEAD_BYTES
from ml.model.manifest import MAX_CLASS_NAME, MAX_CLASSES
from ml.model.partial import sha256_of
from ml.model.photos import head, is_photo, is_visible
from ml.params import Ingest

EXAMPLE = "python -m ml ingest"
RAW = Path("data/raw")
CACHE = Path("data/cache")
MAX_PHOTO_BYTES = 100 << 20
"""A .zip file with a larger entry is rejected before it is unpacked."""

_UTF_8 = 0x800  # flag: the name is in UTF-8
OXFORD_PETS = "oxford-pets"
_BAD_ZIP = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError)


@dataclasses.dataclass(frozen=True)
class IngestReport:
    """The number of photos per class, and of files that were skipped because they are no photos."""

    source: str
    classes: dict[str, int]
    skipped: int


def run(params: Ingest, out: Path = RAW, cache: Path = CACHE) -> IngestReport:
    """Replace `out` with the photos of the source, as `out`/class/file, once all of them are copied.

    Raises:
        PipelineError: the source is missing, damaged or malicious, has fewer than two classes or an empty
            one, cannot be read, or does not fit on the disk.
    """
    unfinished = out.with_name(f".{out.name}.part")
    shutil.rmtree(unfinished, ignore_errors=True)
    try:
        unfinished.mkdir(parents=True)
        skipped = _collect(params, unfinished, cache)
        classes = {folder.name: len(list(folder.iterdir())) for folder in sorted(unfinished.iterdir())}
        _check(params.source, classes)
        _swap(unfinished, out)
    except OSError as error:
        raise PipelineError(f"{params.source}: {error}") from error
    finally:
        shutil.rmtree(unfinished, ignore_errors=True)
    return IngestReport(params.source, classes, skipped)


def _swap(new: Path, out: Path) -> None:
    """Replace a folder with another; if this is interrupted, the old folder, none or the new one is there."""
    old = out.with_name(f".{out.name}.old")
    shutil.rmtree(old, ignore_errors=True)
    if out.exists():
        out.rename(old)
    new.rename(out)
    shutil.rmtree(old, ignore_errors=True)


def _collect(params: Ingest, out: Path, cache: Path) -> int:
    source = params.source
    if source == OXFORD_PETS:
        return _oxford_pets(out, cache)
    if source.startswith(("http://", "https://")):
        return _from_zip(fetch(source, cache, params.sha256), out)
    path = Path(source).expanduser()
    if path.is_dir():
        return _from_folder(path, out)
    if not path.is_file():
        raise PipelineError(f"ingest.source: there is no file or folder {source}")
    if params.sha256 and sha256_of(path) != params.sha256.lower():
        raise PipelineError(f"{source}: its SHA-256 is not the one in ingest.sha256")
    return _from_zip(path, out)


def _check(source: str, classes: dict[str, int]) -> None:
    for name, count in classes.items():
        if not count:
            raise PipelineError(f"{source}: class {name!r} is empty")
    if len(classes) > MAX_CLASSES:
        raise PipelineError(
            f"{source}: it has {len(classes):,} classes, but a model has at most {MAX_CLASSES:,}"
        )
    if len(classes) < 2:
        names = ", ".join(classes) or "none"
        raise PipelineError(f"{source}: needs at least two folders of photos, one per class; it has: {names}")


def _from_folder(source: Path, out: Path) -> int:
    skipped = sum(p.is_file() for p in source.iterdir())
    for folder in sorted(p for p in source.iterdir() if p.is_dir() and is_visible(Path(p.name))):
        target = _class_folder(out, folder.name)
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            if is_photo(file.relative_to(folder), partial(head, file)):
                _copy(file, target)
            else:
                skipped += 1
    return skipped


def _from_zip(source: Path, out: Path) -> int:
    try:
        with zipfile.ZipFile(source) as archive:
            return _unpack(source, archive, out)
    except PipelineError:
        raise
    except _BAD_ZIP as error:
        raise PipelineError(f"{source}: not a valid .zip file ({error})") from error


def _unpack(source: Path, archive: zipfile.ZipFile, out: Path) -> int:
    entries = archive.infolist()
    for info in entries:
        info.filename = _name(info)
        _reject_malicious(source, info)
    files = [info for info in entries if not info.is_dir()]
    folders = [_folders(info) for info in entries if is_visible(PurePosixPath(info.filename))]
    depth = 1 if _wrapped([parts for parts in folders if parts]) else 0
    for parts in folders:  # also folders without a file, so that an empty class is reported
        if len(parts) == depth + 1:
            _class_folder(out, parts[depth])
    photos = [
        info
        for info in files
        if len(_folders(info)) > depth
        and is_photo(PurePosixPath(info.filename), partial(_head, archive, info))
    ]
    total, free = sum(info.file_size for info in photos), shutil.disk_usage(out).free
    if total > free:
        raise PipelineError(f"{source}: rejected, it unpacks to {total:,} bytes and only {free:,} are free")
    for info in tqdm(photos, "unpack"):
        with archive.open(info) as stream:
            _store(stream, _class_folder(out, _folders(info)[depth]), PurePosixPath(info.filename).name)
    return len(files) - len(photos)


def _name(info: zipfile.ZipInfo) -> str:
    """Return an entry's name as its author meant it.

    macOS writes UTF-8 and doesn't say so, and .NET before 4.6.1 separates folders by backslashes.
    """
    name = info.filename
    if not info.flag_bits & _UTF_8:
        with contextlib.suppress(UnicodeError):  # zipfile takes it for code page 437
            name = name.encode("cp437").decode()
    return name.replace("\\", "/")


def _head(archive: zipfile.ZipFile, info: zipfile.ZipInfo) -> bytes:
    """Return the first bytes of an entry; none if it can't be read, so that it isn't taken for a photo."""
    try:
        with archive.open(info) as stream:
            return stream.read(HEAD_BYTES)
    except (*_BAD_ZIP, OSError):
        return b""


def _folders(info: zipfile.ZipInfo) -> tuple[str, ...]:
    parts = PurePosixPath(info.filename).parts
    return parts if info.is_dir() else parts[:-1]


def _wrapped(folders: list[tuple[str, ...]]) -> bool:
    """Whether one folder contains all classes: photos.zip often contains photos/cat/1.jpg."""
    return len({folder[0] for folder in folders}) == 1 and any(len(folder) > 1 for folder in folders)


def _reject_malicious(source: Path, info: zipfile.ZipInfo) -> None:
    path = PurePosixPath(info.filename)
    faults = {
        "leaves the folder": path.is_absolute() or ".." in path.parts,
        "is a link": stat.S_ISLNK(info.external_attr >> 16),
        "is encrypted": info.flag_bits & 1,
        f"has {info.file_size:,} bytes": info.file_size > MAX_PHOTO_BYTES,
    }
    for fault, present in faults.items():
        if present:
            raise PipelineError(f"{source}: rejected, an entry {fault}: {info.filename!r}")


def _class_folder(out: Path, name: str) -> Path:
    if not name.isprintable() or name != name.strip() or len(name) > MAX_CLASS_NAME:
        raise PipelineError(
            "the name of a folder is used as its class, and this one is not printable, or longer than "
            f"{MAX_CLASS_NAME} characters: {name!r}"
        )
    folder = out / name
    folder.mkdir(exist_ok=True)
    return folder


def _copy(file: Path, folder: Path) -> None:
    with file.open("rb") as stream:
        _store(stream, folder, file.name)


def _store(stream: IO[bytes], folder: Path, name: str) -> None:
    """Copy a photo; if another subfolder had one of the same name, add a number to the name."""
    name = name.encode(errors="replace").decode()  # it may not be UTF-8, but splits.json must be
    target, number = folder / name, 1
    while target.exists():
        number += 1
        target = folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
    with target.open("wb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)


def _oxford_pets(out: Path, cache: Path) -> int:
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
            _copy(Path(file), _class_folder(out, names[label]))
    return 0


def main(arguments: argparse.Namespace) -> None:
    """Run the stage and print the number of photos."""
    report = run(parameters.load().ingest)
    counts = ", ".join(f"{name} {count:,}" for name, count in report.classes.items())
    say(f"{report.source}: {counts}; {report.skipped:,} other files skipped")
