"""Photos that the data set contains several times, with different labels, so that `prepare` dropped some."""

import csv
import dataclasses
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml.data.decisions import LabelDecision
from ml.model.image import ImageError, Resize, decode
from ml.model.partial import sha256_of


@dataclasses.dataclass(frozen=True)
class Contradiction:
    """Files that show the same picture, or nearly so, under different labels.

    Attributes:
        paths: class/file of each file.
        hashes: SHA-256 of each file.
        labels: present label of each file.
        pixels: the picture as the network gets it, uint8 [size, size, 3].
    """

    paths: list[str]
    hashes: list[str]
    labels: list[str]
    pixels: NDArray[np.uint8]


def read(
    dropped: Path, raw: Path, decisions: Mapping[str, LabelDecision], size: int, resize: Resize
) -> Iterator[Contradiction]:
    """Read the contradictions that `prepare` reported.

    Args:
        dropped: the dropped photos, dropped.csv.
        raw: the ingested photos.
        decisions: by SHA-256; groups about which a person has decided are left out.
        size: height and width of the pictures.
        resize: how photos become squares.
    """
    for group in _groups(_pairs(dropped)):
        paths = [path for path in group if (raw / path).is_file()]
        hashes = [sha256_of(raw / path) for path in paths]
        made = [decisions.get(sha256) for sha256 in hashes]
        labels = [
            decision.label if decision and decision.label else path.split("/", 1)[0]
            for path, decision in zip(paths, made, strict=True)
        ]
        if len(set(labels)) < 2 or all(made):
            continue
        try:
            pixels = decode((raw / paths[0]).read_bytes(), size, resize)
        except ImageError:
            continue
        yield Contradiction(paths, hashes, labels, pixels)


def _pairs(dropped: Path) -> Iterator[tuple[str, str]]:
    try:
        with dropped.open(newline="", encoding="utf-8") as file:
            for row in csv.DictReader(file):
                if row["reason"] in ("label_conflict", "near_duplicate"):
                    yield row["path"], row["other"]
    except FileNotFoundError:
        return


def _groups(pairs: Iterable[tuple[str, str]]) -> list[list[str]]:
    """Return the groups of photos that pairs connect."""
    group_of: dict[str, set[str]] = {}
    for pair in pairs:
        merged = set(pair).union(*(group_of.get(path, ()) for path in pair))
        group_of |= dict.fromkeys(merged, merged)
    return [sorted(group) for group in {id(group): group for group in group_of.values()}.values()]
