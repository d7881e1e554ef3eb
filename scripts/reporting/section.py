"""A part of the report, and how figures are spelled in it."""

import datetime
import math
from collections.abc import Sequence
from dataclasses import dataclass

from ml.report.page import Part
from reporting.charts import Chart

NONE = "no data"


@dataclass(frozen=True)
class Table:
    """A heading for each column, and rows of texts."""

    head: Sequence[str]
    rows: Sequence[Sequence[str]]


@dataclass(frozen=True)
class Section(Part):
    """What is told of one thing.

    Attributes:
        text: what the figure means.
        chart: None: nothing to draw.
        table: the figures one by one.
    """

    text: str = ""
    chart: Chart | None = None
    table: Table | None = None


def count(value: float, one: str = "", many: str = "") -> str:
    """Spell how many, with a noun."""
    if not math.isfinite(value):
        return NONE
    number = round(value)
    return f"{number:,} {one if number == 1 else many}".strip()


def percent(value: float) -> str:
    """Spell a share."""
    if not math.isfinite(value):
        return NONE
    return f"{100 * value:.{2 if value == 0 or abs(value) >= 0.001 else 4}f} %"


def seconds(value: float) -> str:
    """Spell a latency."""
    if not math.isfinite(value):
        return NONE
    return f"{1000 * value:.0f} ms" if value < 1 else f"{value:.2f} s"


def decimal(value: float) -> str:
    """Spell a figure."""
    return f"{value:.3f}" if math.isfinite(value) else NONE


def moment(value: float) -> str:
    """Spell a point in time."""
    return datetime.datetime.fromtimestamp(value, datetime.UTC).strftime("%Y-%m-%d %H:%M:%S")
