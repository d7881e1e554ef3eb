"""Charts as SVG inside a page: no script, no external resource, text in the page's own colour."""

import datetime
import io
import itertools
import re
import warnings
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import matplotlib as mpl
import numpy as np
from markupsafe import Markup
from matplotlib.axes import Axes
from matplotlib.dates import AutoDateLocator, ConciseDateFormatter
from matplotlib.figure import Figure
from numpy.typing import NDArray

from scripts.reporting.prometheus import Period, Values

_INK = "#010203"
"""Placeholder for the page's text colour."""
_COLOURS = ("#3b8bd4", "#e08a2e", "#2fa36b", "#d0587e", "#8f73d6", "#a39a2a", "#4bb3b3", "#b5754a")
_STYLES = ("-", "--", "-.", ":")
_MAX_SERIES = 8
"""In one chart."""
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


def lines(
    period: Period,
    series: Mapping[str, Values],
    unit: str,
    limits: Mapping[str, float] | None = None,
    marks: Sequence[float] = (),
    band: tuple[Values, Values] | None = None,
    ends: tuple[float, float | None] = (0.0, None),
) -> Markup | None:
    """Draw series over time, with gaps where values are NaN.

    Args:
        period: whose points the series cover.
        series: by name; the eight largest are drawn.
        unit: of the values.
        limits: horizontal lines, by name.
        marks: vertical lines, in seconds since 1970.
        band: lower and upper bounds of the filled area.
        ends: of the value axis; if the upper one is None, it fits the values.

    Returns:
        The chart; None if there is nothing to draw.
    """
    largest = sorted(series, key=lambda name: -np.nansum(series[name]))[:_MAX_SERIES]
    drawn = {name: series[name] for name in series if name in largest}
    if not drawn:
        return None
    times = _dates(period.times())
    with mpl.rc_context(_SETTINGS):
        figure, axes = _figure(period, 2.5)
        for number, (name, values) in enumerate(drawn.items()):
            colour, style = _COLOURS[number % len(_COLOURS)], _STYLES[number % len(_STYLES)]
            axes.plot(times, values, label=name, linewidth=1.5, color=colour, linestyle=style)
            isolated = _isolated(values)
            axes.plot(times[isolated], values[isolated], ".", color=colour, markersize=4)
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
        parts = [
            f"{name or 'value'} from {np.nanmin(values):.3g} to {np.nanmax(values):.3g}"
            for name, values in drawn.items()
        ]
        parts += [f"{name} at {value:.3g}" for name, value in (limits or {}).items()]
        if len(series) > len(drawn):
            parts.append(f"{len(series) - len(drawn)} smaller series are left out")
        return _svg(figure, f"Line chart over time, in {unit}: {'; '.join(parts)}.")


def spans(period: Period, series: Mapping[str, Values]) -> Markup | None:
    """Draw for each series when it was active, see `stretches`; None if none ever was."""
    rows = {name: stretches(period, values) for name, values in series.items()}
    rows = {name: row for name, row in rows.items() if row}
    if not rows:
        return None
    with mpl.rc_context(_SETTINGS):
        figure, axes = _figure(period, 0.7 + 0.3 * len(rows))
        for number, row in enumerate(rows.values()):
            for start, end in row:
                left, right = mpl.dates.date2num(_dates(np.array([start, end])))
                axes.barh(number, right - left, left=left, height=0.6, color=_COLOURS[number % len(_COLOURS)])
        axes.set_yticks(range(len(rows)), list(rows))
        axes.invert_yaxis()
        axes.grid(visible=False, axis="y")
        totals = {name: sum(end - start for start, end in row) for name, row in rows.items()}
        parts = [f"{name} for {duration(total)}" for name, total in totals.items()]
        return _svg(figure, f"Bars over time: {'; '.join(parts)}.")


def stretches(period: Period, values: Values) -> list[tuple[float, float]]:
    """Return start and end of each stretch in which the values are not 0 or NaN, in seconds since 1970."""
    times, active = period.times(), np.concatenate([[0], np.nan_to_num(values) != 0, [0]]).astype(int)
    edges = np.diff(active)
    starts, ends = np.flatnonzero(edges == 1), np.flatnonzero(edges == -1) - 1
    return [
        (times[start], min(times[end] + period.step, period.end))
        for start, end in zip(starts, ends, strict=True)
    ]


def axis_start(series: Iterable[Values], margin: float) -> float:
    """Return a start of the value axis that leaves most of the chart to the values."""
    return max(0.0, min((float(np.nanmin(values)) for values in series), default=0.0) - margin)


def duration(seconds: float) -> str:
    """Return a length of time with its unit."""
    if seconds < 120:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 7200 else f"{seconds / 3600:.1f} h"


def _isolated(values: Values) -> NDArray[np.bool_]:
    """Return which points have a gap on both sides, so that no line shows them."""
    finite = np.concatenate([[False], np.isfinite(values), [False]])
    isolated: NDArray[np.bool_] = finite[1:-1] & ~finite[:-2] & ~finite[2:]
    return isolated


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


def _svg(figure: Figure, alt: str) -> Markup:
    """Return a chart for a page, with its alternative text, ids of its own, and no external addresses."""
    buffer = io.StringIO()
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Glyph .* missing", UserWarning)  # the browser has the glyph
        no_metadata = dict.fromkeys(("Creator", "Date", "Format", "Type"))
        figure.savefig(buffer, format="svg", transparent=True, metadata=no_metadata)
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg ") + 4 :].replace(_INK, "currentColor")
    svg = re.sub(r' xmlns(:\w+)?="[^"]*"', "", svg).replace("xlink:href", "href")
    number = next(_numbers)
    svg = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>c{number}-", svg)
    # matplotlib escapes its texts.
    return Markup('<svg role="img" aria-label="{}"').format(alt) + Markup(svg)  # noqa: S704
