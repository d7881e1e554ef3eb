"""Stage ingest: photos from a folder, a .zip, its URL or torchvision into data/raw, one folder a class."""

import dataclasses
import lzma
import shutil
import stat
import tarfile
import zipfile
import zlib
from collections.abc import Iterable
from pathlib import Path, PurePosixPath
from typing import IO

from tqdm import tqdm

from ml import params as parameters
from ml.cli import exit_cleanly
from ml.errors import PipelineError
from ml.fetch import fetch, sha256_of
from ml.params import Ingest

RAW = Path("data/raw")
CACHE = Path("data/cache")
MAX_PHOTO_BYTES = 100 << 20
"""Larger entries of a .zip are refused before they are unpacked."""

OXFORD_PETS = "oxford-pets"
_SUFFIXES = {".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"}


@dataclasses.dataclass(frozen=True)
class IngestReport:
    """What came in: photos by class, and how many files were no photos by their name."""

    source: str
    classes: dict[str, int]
    skipped: int


def run(params: Ingest, out: Path = RAW, cache: Path = CACHE) -> IngestReport:
    """Replace `out` by the photos of the source, as `out`/class/file.

    The new folder takes the old one's place only when it is whole.

    Raises:
        PipelineError: the source is missing, broken or hostile, has fewer than two classes, or an empty one;
            or the disk is full, or a file can't be read.
    """
    partial = out.with_name(f".{out.name}.part")
    shutil.rmtree(partial, ignore_errors=True)
    try:
        partial.mkdir(parents=True)
        skipped = _collect(params, partial, cache)
        classes = {folder.name: sum(1 for _ in folder.iterdir()) for folder in sorted(partial.iterdir())}
        _check(params.source, classes)
        _swap(partial, out)
    except OSError as error:
        raise PipelineError(f"{params.source}: {error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
    return IngestReport(params.source, classes, skipped)


def _swap(new: Path, out: Path) -> None:
    """Put a whole folder in another's place; a kill leaves the old one, none or the new one, never a part."""
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
    if len(classes) < 2:
        found = ", ".join(classes) or "none"
        raise PipelineError(
            f"{source}: at least two folders with photos are needed, one a class; found: {found}"
        )


def _is_photo(name: str) -> bool:
    return PurePosixPath(name).suffix.lower() in _SUFFIXES and _is_visible(name)


def _from_folder(source: Path, out: Path) -> int:
    skipped = sum(p.is_file() for p in source.iterdir())
    for folder in sorted(p for p in source.iterdir() if p.is_dir() and _is_visible(p.name)):
        _class_folder(out, folder.name)
        for file in sorted(p for p in folder.rglob("*") if p.is_file()):
            if not _is_photo(file.relative_to(folder).as_posix()):
                skipped += 1
                continue
            with file.open("rb") as stream:
                _store(stream, out / folder.name, file.name)
    return skipped


def _from_zip(source: Path, out: Path) -> int:
    try:
        with zipfile.ZipFile(source) as archive:
            return _unpack(source, archive, out)
    except PipelineError:
        raise
    except OSError as error:
        raise PipelineError(f"{source}: {error}") from error
    except (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, RuntimeError, ValueError) as error:
        raise PipelineError(f"{source}: not a whole .zip file ({error})") from error


def _unpack(source: Path, archive: zipfile.ZipFile, out: Path) -> int:
    entries = archive.infolist()
    for info in entries:
        _refuse_hostile(source, info)
    files = [info for info in entries if not info.is_dir()]
    folders = [_folders(info) for info in entries if _is_visible(info.filename)]
    depth = 1 if _wrapped([parts for parts in folders if parts]) else 0
    for parts in folders:  # those without a file too: an empty class is an error, not an absence
        if len(parts) == depth + 1:
            _class_folder(out, parts[depth])
    photos = [info for info in files if _is_photo(info.filename) and len(_folders(info)) > depth]
    total, free = sum(info.file_size for info in photos), shutil.disk_usage(out).free
    if total > free:
        raise PipelineError(f"{source}: refused, it unpacks to {total:,} bytes and {free:,} are free")
    for info in tqdm(photos, "unpack"):
        name = _folders(info)[depth]
        _class_folder(out, name)
        with archive.open(info) as stream:
            _store(stream, out / name, PurePosixPath(info.filename).name)
    return len(files) - len(photos)


def _folders(info: zipfile.ZipInfo) -> tuple[str, ...]:
    parts = PurePosixPath(info.filename).parts
    return parts if info.is_dir() else parts[:-1]


def _wrapped(folders: list[tuple[str, ...]]) -> bool:
    """Whether one folder is around the classes: photos.zip often holds photos/cat/1.jpg."""
    return len({folder[0] for folder in folders}) == 1 and any(len(folder) > 1 for folder in folders)


def _is_visible(name: str) -> bool:
    parts = PurePosixPath(name).parts
    return "__MACOSX" not in parts and not any(part.startswith(".") for part in parts)


def _refuse_hostile(source: Path, info: zipfile.ZipInfo) -> None:
    path = PurePosixPath(info.filename)
    if path.is_absolute() or ".." in path.parts or "\\" in info.filename:
        raise PipelineError(f"{source}: refused, an entry leaves the folder: {info.filename!r}")
    if stat.S_ISLNK(info.external_attr >> 16):
        raise PipelineError(f"{source}: refused, an entry is a link: {info.filename!r}")
    if info.flag_bits & 1:
        raise PipelineError(f"{source}: refused, an entry is encrypted: {info.filename!r}")
    if info.file_size > MAX_PHOTO_BYTES:
        raise PipelineError(f"{source}: refused, an entry of {info.file_size:,} bytes: {info.filename!r}")


def _class_folder(out: Path, name: str) -> None:
    if not name.isprintable() or name != name.strip():
        raise PipelineError(f"a folder's name is its class, and this one can't be shown: {name!r}")
    (out / name).mkdir(exist_ok=True)


def _store(stream: IO[bytes], folder: Path, name: str) -> None:
    """Copy a photo; one of the same name from another subfolder of the class gets a number."""
    name = name.encode(errors="replace").decode()  # a name on disk needn't be UTF-8, in splits.json it must
    target, number = folder / name, 1
    while target.exists():
        number += 1
        target = folder / f"{Path(name).stem}-{number}{Path(name).suffix}"
    with target.open("wb") as file:
        shutil.copyfileobj(stream, file, 1 << 20)


def _oxford_pets(out: Path, cache: Path) -> int:
    from torchvision.datasets import OxfordIIITPet

    try:
        parts: Iterable[OxfordIIITPet] = [
            OxfordIIITPet(cache, split=split, target_types="binary-category", download=True)
            for split in ("trainval", "test")
        ]
    except (OSError, RuntimeError, ValueError, EOFError, tarfile.TarError, zlib.error) as error:
        raise PipelineError(
            f"{OXFORD_PETS}: the download failed ({error}); run it again, if need be without {cache}"
        ) from error
    for part in parts:
        names = [name.lower() for name in part.bin_classes]
        for file, label in zip(part._images, part._bin_labels, strict=True):
            _class_folder(out, names[label])
            with Path(file).open("rb") as stream:
                _store(stream, out / names[label], Path(file).name)
    return 0


def main() -> None:
    """Run the stage and say what came in."""
    report = run(parameters.load().ingest)
    counts = ", ".join(f"{name} {count:,}" for name, count in report.classes.items())
    tqdm.write(f"{report.source}: {counts}; {report.skipped:,} other files skipped")


if __name__ == "__main__":
    with exit_cleanly():
        main()
