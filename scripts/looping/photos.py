"""The photos of the rehearsal: everyday ones, and those of a camera that hangs upside down."""

import io
import random
import zipfile
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from PIL import Image

from ml.model import photos
from scripts.common.pictures import encoded
from scripts.common.process import ROOT
from scripts.rehearsal import random_part

_OWN = ("cat", "dog")
"""Classes of the photos in tests/photos."""
_QUALITY = 88  # of JPEG


@dataclass(frozen=True)
class Labelled:
    """An encoded photo and its class."""

    data: bytes
    label: str


@dataclass(frozen=True)
class Parts:
    """Photos for each purpose; no photo is in two of them.

    Attributes:
        known: from which the first model learns; as everyday photos.
        everyday: that the service gets from the start.
        turned: that it gets later, upside down.
        judged: upside down too, on which both models are judged.
    """

    known: list[Labelled]
    everyday: list[Labelled]
    turned: list[Labelled]
    judged: list[Labelled]


def parts(source: Path | None, sizes: tuple[int, int, int, int], seed: int = 0) -> Parts:
    """Return photos for each purpose.

    Args:
        source: a folder or .zip with one subfolder per class; None: parts of the two photos in tests/photos.
        sizes: photos per class of each part, in the order of `Parts`.
        seed: of the choice.

    Raises:
        ValueError: there are too few photos; the message is for the user.
    """
    chance = random.Random(seed)  # noqa: S311
    chosen = _own(sum(sizes), chance) if source is None else _from(source, sum(sizes), chance)
    cut: list[list[Labelled]] = [[] for _ in sizes]
    for label, contents in chosen.items():
        rest = iter(contents)
        for part, size in zip(cut, sizes, strict=True):
            part += [Labelled(next(rest), label) for _ in range(size)]
    for part in cut:
        chance.shuffle(part)
    return Parts(cut[0], cut[1], *([_turned(photo) for photo in part] for part in cut[2:]))


def write(folder: Path, labelled: list[Labelled]) -> None:
    """Write photos into one subfolder per class."""
    for number, photo in enumerate(labelled):
        path = folder / photo.label / f"{number:05d}.jpg"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(photo.data)


def _turned(photo: Labelled) -> Labelled:
    with Image.open(io.BytesIO(photo.data)) as image:
        return Labelled(
            encoded(image.convert("RGB").transpose(Image.Transpose.ROTATE_180), quality=_QUALITY), photo.label
        )


def _own(number: int, chance: random.Random) -> dict[str, list[bytes]]:
    made = {}
    for label in _OWN:
        with Image.open(ROOT / "tests" / "photos" / f"{label}.jpg") as photo:
            made[label] = [encoded(random_part(photo, chance), quality=_QUALITY) for _ in range(number)]
    return made


def _from(source: Path, number: int, chance: random.Random) -> dict[str, list[bytes]]:
    """Choose so many photos of each class."""
    if not source.is_dir():
        with zipfile.ZipFile(source) as archive:
            names = {name: name for name in archive.namelist()}
            return {
                label: [archive.read(name) for name in chosen]
                for label, chosen in _choose(names, number, chance).items()
            }
    files = {path.relative_to(source).as_posix(): path for path in photos.find(source)}
    return {
        label: [files[name].read_bytes() for name in chosen]
        for label, chosen in _choose(files, number, chance).items()
    }


def _choose(
    names: dict[str, object] | dict[str, str] | dict[str, Path], number: int, chance: random.Random
) -> dict[str, list[str]]:
    by_class = defaultdict(list)
    for name in sorted(names):
        path = PurePosixPath(name)
        if len(path.parts) > 1 and path.suffix.lower() in photos.SUFFIXES:
            by_class[path.parent.name].append(name)
    few = {label: len(found) for label, found in by_class.items() if len(found) < number}
    if len(by_class) < 2 or few:
        raise ValueError(
            f"expected two or more folders with at least {number} photos each; {few or by_class.keys()}"
        )
    return {label: chance.sample(found, number) for label, found in by_class.items()}
