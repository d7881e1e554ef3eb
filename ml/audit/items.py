"""The suspects of an audit as items of the page, and label_decisions.csv as its file of decisions."""

import hashlib
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml.audit.suspects import Suspect, Suspects
from ml.data import decisions
from ml.data.decisions import LabelDecision
from ml.packaging.perturbations import decode_whole, encode
from ml.review.items import LABEL, Action, Choice, Item, Picture

_SIDE = 1600  # longest side of a photo on the page, in pixels
_REASONS = {
    "label": "The classifier is sure of another class.",
    "disagreement": "The classifier would choose another class.",
    "outlier": "It is among the photos that look least like the classes.",
    "contradiction": "Equal or nearly equal photos have different labels, so prepare drops some of them.",
}


class AuditItems:
    """The suspects, and the decisions about them in a file; see `ml.review.items.Items`.

    Args:
        suspects: what was found.
        raw: the ingested photos.
        path: of the decisions.
    """

    title = "Label audit"
    shared = False
    kinds: Mapping[str, str] = {
        "label": "contradicted label",
        "disagreement": "doubted label",
        "outlier": "unlike the classes",
        "contradiction": "several labels",
    }
    actions: Sequence[Action] = (Action("keep", "Keep", "k", primary=True), Action("drop", "Drop", "d"))

    def __init__(self, suspects: Suspects, raw: Path, path: Path) -> None:
        self.path = path
        self.classes: Sequence[str] = suspects.classes
        self.next_step = f"`make train` obeys {path}"
        self._suspects = {str(number): suspect for number, suspect in enumerate(suspects.suspects)}
        self.items: Sequence[Item] = [_item(number, suspect) for number, suspect in self._suspects.items()]
        self._files = {
            sha256: raw / name
            for suspect in suspects.suspects
            for name, sha256 in zip(suspect.paths, suspect.hashes, strict=True)
        }
        self._replaced: dict[str, dict[str, LabelDecision]] = {}
        self._lock = threading.Lock()

    def choices(self) -> dict[str, Choice]:
        """Return the decisions in the file, which others may have changed meanwhile."""
        made = decisions.load(self.path)
        choices = {name: _choice(suspect, made) for name, suspect in self._suspects.items()}
        return {name: choice for name, choice in choices.items() if choice}

    def reload(self) -> None:
        """Read the decisions; `choices` does so each time."""
        self.choices()

    def decide(self, item: Item, choice: Choice | None) -> None:
        """Write the decision about all files of a suspect, or take it back; changes by others stay."""
        suspect = self._suspects[item.id]
        with self._lock:
            made = decisions.load(self.path)
            if _choice(suspect, made) is None:  # an earlier audit may have decided about some of the files
                earlier = {sha256: made[sha256] for sha256 in suspect.hashes if sha256 in made}
                self._replaced[item.id] = earlier
            files = zip(suspect.paths, suspect.hashes, suspect.labels, strict=True)
            for path, sha256, label in files:
                made.pop(sha256, None)
                if choice is not None:
                    made[sha256] = _decision(suspect, choice, sha256, path, label)
            if choice is None:
                made |= self._replaced.get(item.id, {})
            decisions.save(made.values(), self.path)

    def words(self, item: Item, choice: Choice) -> str:
        """Return a decision in words."""
        if choice.action == LABEL:
            return f"Relabelled: {choice.label}"
        return "Dropped" if choice.action == "drop" else f"Kept: {', '.join(item.labels)}"

    def photo(self, photo: str) -> bytes:
        """Return a photo of a suspect, by SHA-256, as a new JPEG."""
        content = self._files[photo].read_bytes()
        if hashlib.sha256(content).hexdigest() != photo:  # the photos were ingested again since
            raise FileNotFoundError(photo)
        picture = decode_whole(content, _SIDE // 4)
        picture.thumbnail((_SIDE, _SIDE))
        return encode(picture, "JPEG", quality=90)

    def evidence(self, photo: str) -> dict[str, Any] | None:
        """Return None: the classifier of the audit has no evidence map."""
        return None

    def figures(self) -> str:
        """Return nothing: an audit has no results before the next training."""
        return ""


def _item(number: str, suspect: Suspect) -> Item:
    labels = list(dict.fromkeys(suspect.labels))
    quoted = [f"“{label}”" for label in labels]
    question = (
        f"Is the label {quoted[0]} right?" if len(labels) == 1 else f"Which is right: {' or '.join(quoted)}?"
    )
    likeliest, share = next(iter(suspect.probabilities.items()))
    files = zip(suspect.hashes, suspect.paths, suspect.labels, strict=True)
    photos = [Picture(sha256, path, label if len(suspect.paths) > 1 else "") for sha256, path, label in files]
    reason = f"{_REASONS[suspect.kind]} The prediction is “{likeliest}”, {share:.1%}.".replace(".0%", "%")
    return Item(number, suspect.kind, photos, question, reason, labels, suspect.probabilities)


def _decision(suspect: Suspect, choice: Choice, sha256: str, path: str, label: str) -> LabelDecision:
    """Return the line of one file, whose present label may be that of an earlier decision.

    Choosing the class that all files have already is to keep it.
    """
    if choice.action == "drop":
        return LabelDecision(sha256, "drop", "", path)
    if choice.action == LABEL and set(suspect.labels) != {choice.label}:
        return LabelDecision(sha256, "relabel", choice.label, path)
    if label != _folder(path):  # the line `keep` would stand for the label of the folder
        return LabelDecision(sha256, "relabel", label, path)
    return LabelDecision(sha256, "keep", "", path)


def _folder(path: str) -> str:
    return path.partition("/")[0]


def _choice(suspect: Suspect, made: Mapping[str, LabelDecision]) -> Choice | None:
    """Return the decision about all files of a suspect, or None."""
    lines = [made[sha256] for sha256 in suspect.hashes if sha256 in made]
    if len(lines) < len(suspect.hashes):
        return None
    choices = {(line.decision, line.label) for line in lines}
    if len(choices) > 1:  # files that keep their labels, some of which are of an earlier decision
        files = zip(lines, suspect.paths, suspect.labels, strict=True)
        kept = (line.decision != "drop" and (line.label or _folder(path)) == old for line, path, old in files)
        return Choice("keep") if all(kept) else None
    ((action, label),) = choices
    if action == "relabel":
        return Choice(LABEL, label)
    common = suspect.labels[0] if action == "keep" and len(set(suspect.labels)) == 1 else ""
    return Choice(action, common)
