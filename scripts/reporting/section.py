"""A section of the report, and how it shows numbers."""

import datetime
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from markupsafe import Markup

NONE = "unknown"
"""What a figure is without data. It is never 0, which would mean that nothing happened."""


@dataclass(frozen=True)
class Table:
    """The headings of the columns, and rows of texts; the first cell of a row names it."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]
    compare: int | None = None  # column that is compared with the period before
    absent: Sequence[str] = ()  # cells of a row that is missing although there is data; empty: unknown

    def compared(self, before: "Table") -> "Table":
        """Return the table with a column of the values in the period before."""
        if self.compare is None:
            return self
        earlier = {row[0]: row[self.compare] for row in before.rows}
        rows = {row[0]: row for row in self.rows}
        missing = NONE
        if self.absent and earlier:
            missing = self.absent[self.compare - 1]
        if self.absent and rows:
            rows |= {name: (name, *self.absent) for name in earlier if name not in rows}
        made = [(*row, earlier.get(name, missing)) for name, row in rows.items()]
        return replace(self, head=(*self.head, "before"), rows=made)


@dataclass(frozen=True)
class Section:
    """A section of the report."""

    title: str
    headline: str  # its most important figure
    text: str  # explains the figures
    draw: Callable[[], Markup | None]  # returns its chart; None: there is nothing to draw
    table: Table | None = None  # the figures one by one
    bad: bool = False  # whether the headline is worse than it should be


def count(value: float, noun: str = "") -> str:
    """Return a number with its noun, which gets an s in the plural."""
    if not math.isfinite(value):
        return NONE
    plural = "s" if noun and round(value) != 1 else ""
    return f"{round(value):,} {noun}{plural}".rstrip()


def percent(value: float) -> str:
    """Return a share as a percentage, with more digits if it is small."""
    if not math.isfinite(value):
        return NONE
    return f"{100 * value:.{2 if value == 0 or abs(value) >= 0.001 else 4}f} %"


def seconds(value: float) -> str:
    """Return a latency with its unit."""
    if not math.isfinite(value):
        return NONE
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.2f} s"


def decimal(value: float) -> str:
    """Return a number with three decimals."""
    return f"{value:.3f}" if math.isfinite(value) else NONE


def moment(value: float) -> str:
    """Return a time in seconds since 1970 as date and time in UTC."""
    return datetime.datetime.fromtimestamp(value, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
