"""Charts as SVG that stands in a page: no script, no outside resource, the page's own colours of text."""

import datetime
import io
import itertools
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray

from reporting.prometheus import Period, Values

_INK = "#010203"
"""Stands for the page's colour of text until the SVG is written."""
_COLOURS = ("#3b8bd4", "#e08a2e", "#2fa36b", "#d0587e", "#8f73d6", "#a39a2a", "#4bb3b3", "#b5754a")
_STYLES = ("-", "--", "-.", ":")
_MOST = 8
"""Series in one chart."""
_numbers = itertools.count(1)

mpl.use("Agg")
_SETTINGS: dict[Any, Any] = {
    "svg.fonttype": "none",
    "svg.hashsalt": "report",
    "text.parse_math": False,
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "grid.alpha": 0.25,
    "grid.color": _INK,
    "text.color": _INK,
    "axes.labelcolor": _INK,
    "axes.edgecolor": _INK,
    "xtick.color": _INK,
    "ytick.color": _INK,
    "legend.frameon": False,
}


@dataclass(frozen=True)
class Chart:
    """A picture with the text that stands for it."""

    svg: Markup
    alt: str

    @property
    def html(self) -> Markup:
        """Return the picture with its text, for a page."""
        return Markup('<svg role="img" aria-label="{}"').format(self.alt) + self.svg.removeprefix("<svg")


def lines(
    period: Period,
    series: Mapping[str, Values],
    unit: str,
    limits: Mapping[str, float] | None = None,
    marks: Sequence[float] = (),
    band: tuple[Values, Values] | None = None,
    ends: tuple[float, float | None] = (0.0, None),
) -> Chart | None:
    """Draw series over time, with a gap where a value is NaN.

    Args:
        period: that the points of each series cover.
        series: by name; of more than eight the largest are drawn.
        unit: of the values.
        limits: horizontal lines, by name.
        marks: moments, as vertical lines.
        band: lower and upper bounds of what is drawn.
        ends: of the axis; without an upper one it fits the values.

    Returns:
        The chart; None where there is nothing to draw.
    """
    drawn = dict(sorted(series.items(), key=lambda item: -np.nansum(item[1]))[:_MOST])
    drawn = {name: series[name] for name in series if name in drawn}
    if not drawn:
        return None
    times = _dates(period.times())
    with mpl.rc_context(_SETTINGS):
        figure, axes = _figure(period, 2.5)
        for number, (name, values) in enumerate(drawn.items()):
            colour, style = _COLOURS[number % len(_COLOURS)], _STYLES[number % len(_STYLES)]
            axes.plot(times, values, label=name, linewidth=1.5, color=colour, linestyle=style)
            alone = _alone(values)
            axes.plot(times[alone], values[alone], ".", color=colour, markersize=4)
        if band is not None:
            axes.fill_between(times, *band, color=_COLOURS[0], alpha=0.2, linewidth=0)
        for name, value in (limits or {}).items():
            axes.axhline(value, color=_INK, linewidth=1, linestyle=(0, (1, 1)), label=name)
        for moment in marks:
            axes.axvline(_dates(np.array([moment]))[0], color=_INK, linewidth=0.8, linestyle=(0, (4, 2)))
        axes.set_ylabel(unit)
        low, high = ends
        axes.set_ylim(low, max(axes.get_ylim()[1], low + 1e-9) if high is None else high)
        axes.legend(loc="upper left", bbox_to_anchor=(1.0, 1.05))
        svg = _svg(figure)
    told = [
        f"{name or 'value'} from {_short(np.nanmin(v))} to {_short(np.nanmax(v))}"
        for name, v in drawn.items()
    ]
    told += [f"{name} at {_short(value)}" for name, value in (limits or {}).items()]
    left_out = f"; {len(series) - len(drawn)} smaller series are left out" if len(series) > len(drawn) else ""
    return Chart(svg, f"Line chart over time, in {unit}: {'; '.join(told)}{left_out}.")


def spans(period: Period, rows: Mapping[str, Values]) -> Chart | None:
    """Draw when each of these held: where its values are numbers other than 0. None where none ever did."""
    found = {name: stretches(period, values) for name, values in rows.items()}
    found = {name: some for name, some in found.items() if some}
    if not found:
        return None
    with mpl.rc_context(_SETTINGS):
        figure, axes = _figure(period, 0.7 + 0.3 * len(found))
        for number, some in enumerate(found.values()):
            for start, end in some:
                left, right = mpl.dates.date2num(_dates(np.array([start, end])))
                axes.barh(number, right - left, left=left, height=0.6, color=_COLOURS[number % len(_COLOURS)])
        axes.set_yticks(range(len(found)), list(found))
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        svg = _svg(figure)
    told = "; ".join(f"{name} for {duration(sum(b - a for a, b in some))}" for name, some in found.items())
    return Chart(svg, f"Bars over time: {told}.")


def stretches(period: Period, values: Values) -> list[tuple[float, float]]:
    """Return from when to when the values are numbers other than 0, in seconds since 1970."""
    times, on = period.times(), np.concatenate([[0], np.nan_to_num(values) != 0, [0]]).astype(int)
    edges = np.diff(on)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    return [(times[a], min(times[b] + period.step, period.end)) for a, b in zip(starts, ends, strict=True)]


def room_below(values: Iterable[Values], margin: float) -> float:
    """Return where an axis may begin so that values near its upper end can be told apart."""
    return max(0.0, min((float(np.nanmin(some)) for some in values), default=0.0) - margin)


def duration(seconds: float) -> str:
    """Return a length of time for a person."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _alone(values: Values) -> NDArray[np.bool_]:
    """Return which points have a gap on both sides, so that no line shows them."""
    there = np.concatenate([[False], np.isfinite(values), [False]])
    alone: NDArray[np.bool_] = there[1:-1] & ~there[:-2] & ~there[2:]
    return alone


def _dates(times: Values) -> "np.ndarray[tuple[int], np.dtype[np.datetime64]]":
    return np.array(np.round(times), "datetime64[s]")


def _figure(period: Period, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(8.4, height), layout="constrained")
    axes = figure.subplots()
    ends = _dates(np.array([period.start, period.end], np.float64))
    axes.set_xlim(*ends)
    locator = AutoDateLocator(tz=datetime.UTC, maxticks=8)
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_major_formatter(ConciseDateFormatter(locator, tz=datetime.UTC))
    return figure, axes


def _svg(figure: Figure) -> Markup:
    """Return the picture for the midst of a page: its ids are no other's, and it names no other address."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the browser has it
        none = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=none)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg ") :].replace(_INK, "currentColor")
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    number = next(_numbers)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>c{number}-", svg)
    return Markup(svg)  # noqa: S704  (matplotlib escapes the texts in it)


def _short(value: float) -> str:
    return f"{value:.3g}"
