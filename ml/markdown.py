"""Figures and names in Markdown."""

import re
from collections.abc import Iterable, Mapping, Sequence

MOST = 40
"""Rows of a table; of more, those that matter most."""


def plain(text: str) -> str:
    """Return a text that Markdown shows as it is; names of classes are names of folders, so anything."""
    return re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", " ".join(text.split()))


def percent(value: float) -> str:
    """Spell a share."""
    return f"{100 * value:.2f} %"


def figure(name: str, found: Mapping[str, float], share: bool = True) -> str:
    """Spell a figure with its interval, if it has one; `-`: it isn't there."""

    def shown(value: float) -> str:
        return percent(value) if share else f"{value:.4f}"

    if name not in found:
        return "-"
    low, high = found.get(f"{name}_low"), found.get(f"{name}_high")
    interval = f" ({shown(low)} to {shown(high)})" if low is not None and high is not None else ""
    return shown(found[name]) + interval


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a table and an empty one; none where it has no rows."""
    lines = [f"| {' | '.join(row)} |" for row in rows]
    if not lines:
        return []
    return [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}", *lines, ""]


def listed(names: Sequence[str], most: int = 12) -> str:
    """Name some of many."""
    shown = [plain(f"{name:.60}") for name in names[:most]]
    return ", ".join(shown) + (f" and {len(names) - most} more" if len(names) > most else "")
