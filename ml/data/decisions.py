"""What a person decided about single photos: label_decisions.csv.

The label audit writes the file, and prepare obeys it.

A photo is named by the SHA-256 of its file, so a decision holds if the photo is renamed or others are added.
"""

import dataclasses
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from ml.data import tables
from ml.data.photo import Photo
from ml.model.errors import PipelineError, one_line

PATH = Path("label_decisions.csv")
REASON = "audit"
"""Why `prepare` drops a photo that a person dropped."""

Action = Literal["keep", "relabel", "drop"]
ACTIONS: tuple[Action, ...] = get_args(Action)


@dataclasses.dataclass(frozen=True)
class LabelDecision:
    """What a person decided about a photo.

    Attributes:
        sha256: of the photo's file.
        decision: `keep` (its label is right), `relabel` or `drop`.
        label: the right class, if the decision is `relabel`; else empty.
        path: class/file at that time; only people read it.
    """

    sha256: str
    decision: Action
    label: str = ""
    path: str = ""

    def __post_init__(self) -> None:
        """Raise ValueError for a line that nobody may act upon."""
        if not tables.SHA256.fullmatch(self.sha256):
            raise ValueError(f"{one_line(self.sha256, 80)!r} is not a SHA-256 in lower-case hexadecimal")
        if self.decision not in ACTIONS:
            raise ValueError(
                f"the decision is one of {', '.join(ACTIONS)}, not {one_line(self.decision, 80)!r}"
            )
        if bool(self.label) != (self.decision == "relabel"):
            raise ValueError(
                f"{self.decision} takes no label" if self.label else "relabel needs the right class as label"
            )


def load(path: Path = PATH) -> dict[str, LabelDecision]:
    """Read the decisions, by SHA-256; none if there is no file.

    Raises:
        PipelineError: the file cannot be read, a line is invalid, or two lines are about the same photo.
    """
    return {decision.sha256: decision for decision in tables.load(path, LabelDecision, unique="sha256")}


def save(decisions: Iterable[LabelDecision], path: Path = PATH) -> None:
    """Replace the file with these decisions, sorted by SHA-256 so that versions of it can be merged.

    Raises:
        OSError: the file cannot be written; the old one is unchanged.
    """
    tables.save(path, LabelDecision, sorted(decisions, key=lambda each: each.sha256))


def apply(
    photos: Sequence[Photo], decisions: Mapping[str, LabelDecision], classes: Sequence[str], path: Path = PATH
) -> tuple[list[Photo], dict[str, int]]:
    """Relabel and drop photos as a person decided.

    A decision is about what a photo shows. So it holds for photos with the same pixels too, unless there are
    decisions about these, or the decisions contradict each other.
    Splits are assigned before: a relabelled photo keeps its split, and no other photo moves.

    Args:
        photos: all photos, those that cannot be used included.
        decisions: by SHA-256.
        classes: all classes.
        path: of the decisions, for the error.

    Returns:
        The photos, and counts: photos by decision, and decisions about photos that are `absent`.

    Raises:
        PipelineError: a photo is to get a label that is not a class.
    """
    by_pixels: dict[str, set[str]] = {}
    for photo in photos:
        if not photo.reason and (made := decisions.get(photo.sha256)):
            if made.label and made.label not in classes:
                raise PipelineError(
                    f"{path} relabels {photo.path} as {one_line(made.label, 60)!r}, which is not a class; "
                    f"there are {one_line(', '.join(classes), 200)}"
                )
            by_pixels.setdefault(photo.pixels_sha256, set()).add(_shown(photo, made))
    result = []
    counts: Counter[str] = Counter(dict.fromkeys(ACTIONS, 0))
    for photo in photos:
        made = None if photo.reason else decisions.get(photo.sha256)
        copies = set() if photo.reason else by_pixels.get(photo.pixels_sha256, set())
        label = photo.label
        if made:
            label = _shown(photo, made)
        elif len(copies) == 1:
            (label,) = copies
        if made or label != photo.label:
            counts[made.decision if made else "relabel" if label else "drop"] += 1
        if not label:
            photo = photo.drop(REASON, f"dropped in {path}")
        elif label != photo.label:
            photo = dataclasses.replace(photo, relabelled=label)
        result.append(photo)
    absent = len(decisions.keys() - {photo.sha256 for photo in photos})
    return result, dict(counts) | {"absent": absent}


def _shown(photo: Photo, made: LabelDecision) -> str:
    """Return the class that a photo shows by decision; empty: none of them."""
    return "" if made.decision == "drop" else made.label or photo.label
