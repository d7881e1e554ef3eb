"""What the page shows and writes; the label audit and the review of collected photos implement `Items`."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Protocol

LABEL = "label"
"""The action of a choice that names a class."""


@dataclasses.dataclass(frozen=True)
class Choice:
    """What a person decided.

    Attributes:
        action: `LABEL`, or the name of one of the other actions.
        label: the class, if the action implies one; else empty.
    """

    action: str
    label: str = ""


@dataclasses.dataclass(frozen=True)
class Action:
    """A decision that names no class.

    Attributes:
        name: in `Choice.action`.
        text: on its button.
        key: that stands for it, in lower case.
        primary: whether its button stands out.
    """

    name: str
    text: str
    key: str
    primary: bool = False


@dataclasses.dataclass(frozen=True)
class Picture:
    """A photo on the page: `id` is its address, `name` its description, `tag` is written on it."""

    id: str
    name: str
    tag: str = ""


@dataclasses.dataclass(frozen=True)
class Item:
    """A photo to decide about, or several for which one decision counts.

    Attributes:
        id: names it in requests.
        kind: one of `Items.kinds`.
        photos: what is shown.
        question: the heading.
        reason: why it is shown.
        labels: classes that are marked as the present label.
        probabilities: by class, likeliest first; empty: the suggestion is not to be seen.
        evidence: whether the page may ask for the evidence map.
    """

    id: str
    kind: str
    photos: Sequence[Picture]
    question: str
    reason: str
    labels: Sequence[str] = ()
    probabilities: Mapping[str, float] = dataclasses.field(default_factory=dict)
    evidence: bool = False


class Items(Protocol):
    """The photos to decide about, and the file of decisions.

    Attributes:
        title: of the page.
        path: of the file of decisions.
        classes: that a person can choose.
        kinds: titles of the kinds of items, by name.
        actions: decisions besides the classes.
        items: in the order in which they are shown.
        next_step: what to do with the decisions, as the end of a sentence.
        shared: whether several people decide; otherwise, all pages are those of one person, who may close one
            and open another.
    """

    title: str
    path: Path
    classes: Sequence[str]
    kinds: Mapping[str, str]
    actions: Sequence[Action]
    items: Sequence[Item]
    next_step: str
    shared: bool

    def reload(self) -> None:
        """Read the file of decisions, which others may have written until now; raises PipelineError."""

    def choices(self) -> Mapping[str, Choice]:
        """Return the decisions in the file, by item; raises PipelineError if it cannot be read."""

    def decide(self, item: Item, choice: Choice | None) -> None:
        """Write a decision durably; None: undecided again. Raises OSError or PipelineError."""

    def words(self, item: Item, choice: Choice) -> str:
        """Return a decision in words."""

    def photo(self, photo: str) -> bytes:
        """Return a JPEG for the page; raises KeyError, OSError or ImageError if there is none."""

    def evidence(self, photo: str) -> dict[str, Any] | None:
        """Return `label`, `box` and `overlay` (see `ml.model.explain`), or None; raises as `photo`."""

    def figures(self) -> str:
        """Return a line about the results so far, or an empty text."""
