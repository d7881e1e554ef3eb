"""How the model card and the reports show numbers and names."""

import re
from collections.abc import Sequence

from ml.reporting.stage_reports import Figure

MISSING = "-"
"""Stands for a figure that was not measured."""


def percent(share: float | None) -> str:
    """Return a share as a percentage."""
    return MISSING if share is None else f"{100 * share:.2f} %"


def value(figure: Figure | None) -> str:
    """Return a figure without its interval."""
    return MISSING if figure is None else _number(figure.value, figure.share)


def interval(figure: Figure | None) -> str:
    """Return the confidence interval of a figure; empty if it has none."""
    if figure is None or figure.low is None or figure.high is None:
        return ""
    return f"{_number(figure.low, figure.share)} to {_number(figure.high, figure.share)}"


def with_interval(figure: Figure | None) -> str:
    """Return a figure and its confidence interval."""
    return f"{value(figure)} ({interval(figure)})" if interval(figure) else value(figure)


def _number(number: float, share: bool) -> str:
    return percent(number) if share else f"{number:.4f}"


def words(name: str) -> str:
    """Return an identifier as words."""
    return name.replace("_", " ")


def clip(name: str) -> str:
    """Return the first 60 characters of a name."""
    return name[:60]


def listed(names: Sequence[str], most: int = 12) -> str:
    """Return the first names of a list, each cut to 60 characters, and the number of the others."""
    shown = ", ".join(clip(name) for name in names[:most])
    return shown + (f" and {len(names) - most} more" if len(names) > most else "")


def position(number: float, start: float, end: float) -> float:
    """Return the position on a scale from `start` to `end`, in percent; numbers beyond go to its ends."""
    return round(100 * min(max((number - start) / max(end - start, 1e-9), 0), 1), 2)


def escape_markdown(text: str) -> str:
    """Return a text that Markdown shows unchanged, on one line.

    Names of classes are names of folders, so they can hold anything.
    """
    return re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", re.sub(r"\s+", " ", text))
