"""What the page is made of, and how figures are spelled on it."""

import base64
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from ml.markdown import percent
from ml.report.page import Part

_TYPES = {".png": "image/png", ".jpg": "image/jpeg"}


@dataclass(frozen=True)
class Bar:
    """A value and its interval on a scale; each place is in percent of the scale's length.

    Attributes:
        value: place of the value.
        low: place of the interval's lower end.
        high: place of its upper end.
        limit: place of what the value may not exceed; None: there is no limit.
        bad: whether it does.
    """

    value: float
    low: float
    high: float
    limit: float | None = None
    bad: bool = False
    kind: str = "bar"


@dataclass(frozen=True)
class Picture:
    """A picture inside the page, with the text that stands for it."""

    source: str
    alt: str
    kind: str = "picture"


Cell = str | Bar | Picture


@dataclass(frozen=True)
class Table:
    """A heading for each column, rows of cells, and what the whole shows."""

    caption: str
    head: Sequence[str]
    rows: Sequence[Sequence[Cell]]


@dataclass(frozen=True)
class Section(Part):
    """What is told of one thing; without a figure its stage has not run.

    Attributes:
        text: paragraphs.
        tables: the figures one by one.
        pictures: in the midst of it.
    """

    text: Sequence[str] = ()
    tables: Sequence[Table] = field(default_factory=list)
    pictures: Sequence[Picture] = ()


def scale(
    value: float,
    low: float,
    high: float,
    start: float,
    end: float,
    limit: float | None = None,
    bad: bool = False,
) -> Bar:
    """Place a value on a scale from `start` to `end`; what is beyond stands at its end."""

    def place(number: float) -> float:
        return round(100 * min(max((number - start) / max(end - start, 1e-9), 0), 1), 2)

    return Bar(place(value), place(low), place(high), None if limit is None else place(limit), bad)


def picture(path: Path, alt: str) -> list[Picture]:
    """Return a picture as it stands in the page; none where the file isn't there."""
    try:
        content = base64.b64encode(path.read_bytes()).decode("ascii")
    except OSError:
        return []
    return [Picture(f"data:{_TYPES[path.suffix]};base64,{content}", alt)]


def interval(name: str, found: Mapping[str, float], share: bool = True) -> str:
    """Spell a figure's interval; empty: it has none."""
    low, high = found.get(f"{name}_low"), found.get(f"{name}_high")
    if low is None or high is None:
        return ""
    return f"{100 * low:.2f} to {100 * high:.2f} %" if share else f"{low:.4f} to {high:.4f}"


def number(name: str, found: Mapping[str, float], share: bool = True) -> str:
    """Spell a figure; a dash: it isn't there."""
    if name not in found:
        return "-"
    return percent(found[name]) if share else f"{found[name]:.4f}"
