"""What an audit found: the photos that a person should look at."""

import dataclasses
import json
from pathlib import Path
from typing import Any, Literal, Self, get_args

from ml.model.files import replaced

Kind = Literal["contradiction", "label", "outlier", "disagreement"]
KINDS: tuple[Kind, ...] = get_args(Kind)


@dataclasses.dataclass(frozen=True)
class Suspect:
    """A photo to look at, or several files with the same picture.

    Attributes:
        kind: `contradiction` (the same photo has several labels), `label` (the classifier clearly contradicts
            the label), `outlier` (it looks like a photo of none of the classes) or `disagreement` (another
            class is predicted, but not surely enough for `label`).
        paths: class/file of each file.
        hashes: SHA-256 of each file.
        labels: the present label of each file.
        probabilities: of the likeliest classes and of the present labels, predicted by a classifier that did
            not learn from this photo.
    """

    kind: Kind
    paths: list[str]
    hashes: list[str]
    labels: list[str]
    probabilities: dict[str, float]


@dataclasses.dataclass(frozen=True)
class Suspects:
    """The result of an audit.

    Attributes:
        key: what it was computed from; another key means that it is out of date.
        classes: all classes.
        photos: number of photos that were checked.
        suspects: those to look at, the most suspicious of each kind first.
    """

    key: str
    classes: list[str]
    photos: int
    suspects: list[Suspect]

    def save(self, path: Path) -> None:
        """Write it completely or not at all. Raises OSError."""
        path.parent.mkdir(parents=True, exist_ok=True)
        with replaced(path) as file:
            file.write(json.dumps(dataclasses.asdict(self), indent=1, ensure_ascii=False).encode() + b"\n")

    @classmethod
    def load(cls, path: Path) -> Self | None:
        """Read it; None if there is no such file, or another version wrote it."""
        try:
            content: dict[str, Any] = json.loads(path.read_text("utf-8"))
            content["suspects"] = [Suspect(**each) for each in content["suspects"]]
            return cls(**content)
        except (OSError, ValueError, TypeError, KeyError):
            return None
