"""Panels of the repository's dashboards, drawn large from what Prometheus answers to their queries.

Series that are 0 all the time are left out.
"""

import html
import json
import math
import re
from dataclasses import dataclass
from pathlib import Path

from common.patient import ServiceError
from reporting.prometheus import Period, Source, Values

_JOB, _WINDOW = "cats-vs-dogs", "10s"
_WIDTH, _HEIGHT, _LEFT, _TOP, _BOTTOM = 490, 172, 54, 8, 20
_LABEL = re.compile(r"\{\{(\w+)\}\}")
_COLOURS = ("#3b8bd4", "#e08a2e", "#2fa36b", "#d0587e", "#8f73d6", "#a39a2a")
_STYLE = """body { margin: 0; padding: 10px 12px; font: 14px "DejaVu Sans", sans-serif; color: #1d2125;
  background: #fff;   display: grid; grid-template-columns: repeat(2, minmax(0, 1fr)); gap: 8px 16px; }
h2 { margin: 0; font-size: 15px; } svg { display: block; }
code { display: block; font: 9.5px "DejaVu Sans Mono", monospace; color: #5d656d;
  white-space: nowrap; overflow: hidden; text-overflow: ellipsis; }
text { font-size: 12px; fill: #5d656d; } b { font-size: 11px; margin-right: 8px; }
p { margin: 0; white-space: nowrap; overflow: hidden; }"""


@dataclass(frozen=True)
class Panel:
    """A panel of a dashboard: its title, and each query with what names its series."""

    title: str
    queries: tuple[tuple[str, str], ...]


def panels(folder: Path, titles: tuple[str, ...]) -> list[Panel]:
    """Return the panels of those titles from the dashboards in a folder.

    Raises:
        LookupError: there is no such panel.
    """
    found = {}
    for path in sorted(folder.glob("*.json")):
        for panel in json.loads(path.read_text("utf-8"))["panels"]:
            targets = panel.get("targets", [])
            queries = tuple((target["expr"], target.get("legendFormat", "")) for target in targets)
            found[panel["title"]] = Panel(panel["title"], queries)
    missing = [title for title in titles if title not in found]
    if missing:
        raise LookupError(f"no panels of these titles: {missing}")
    return [found[title] for title in titles]


def page(chosen: list[Panel], prometheus: str, period: Period) -> str:
    """Ask every query of the panels over a period; return the page that shows the answers."""
    source = Source(prometheus, "", _JOB, period, 10.0)
    figures = "".join(_figure(panel, source) for panel in chosen)
    return f"<!doctype html><meta charset=utf-8><style>{_STYLE}</style>{figures}"


def _figure(panel: Panel, source: Source) -> str:
    series: dict[str, Values] = {}
    for query, legend in panel.queries:
        label = "".join(_LABEL.findall(legend)[:1])
        try:
            for name, values in source.series(_filled(query), label).items():
                if values.max(where=values == values, initial=0.0) > 0:
                    series[_named(legend, name) or name or "value"] = values
        except ServiceError as error:
            return f"<section><h2>{panel.title}</h2><p>{html.escape(str(error))}</p></section>"
    first = html.escape(_filled(panel.queries[0][0]))
    shown = "".join(
        f'<b style="color:{colour}">{html.escape(name)} {_short(_last(values))}</b>'
        for colour, (name, values) in zip(_COLOURS, series.items(), strict=False)
    )
    title = html.escape(panel.title)
    return f"<section><h2>{title}</h2><code>{first}</code>{_svg(series)}<p>{shown}</p></section>"


def _named(legend: str, value: str) -> str:
    return _LABEL.sub(lambda _: value, legend)


def _filled(query: str) -> str:
    return query.replace("$job", _JOB).replace("$__rate_interval", _WINDOW)


def _svg(series: dict[str, Values]) -> str:
    most = max(
        (float(value) for values in series.values() for value in values if value == value), default=0.0
    )
    most = most * 1.1 or 1.0
    floor, height = _HEIGHT - _BOTTOM, _HEIGHT - _BOTTOM - _TOP
    drawn = []
    for share in (0.0, 0.5, 1.0):
        y = floor - share * height
        drawn.append(f'<path d="M{_LEFT} {y:.0f}H{_WIDTH}" stroke="#d9dde1"/>')
        drawn.append(f'<text x="{_LEFT - 6}" y="{y + 4:.0f}" text-anchor="end">{_short(share * most)}</text>')
    for colour, values in zip(_COLOURS, series.values(), strict=False):
        step = (_WIDTH - _LEFT) / max(1, len(values) - 1)
        path, pen = "", "M"
        for number, value in enumerate(values):
            if math.isnan(value):
                pen = "M"
                continue
            path += f"{pen}{_LEFT + number * step:.1f} {floor - float(value) / most * height:.1f}"
            pen = "L"
        drawn.append(f'<path d="{path}" fill="none" stroke="{colour}" stroke-width="2.5"/>')
    return f'<svg width="{_WIDTH}" height="{_HEIGHT}">{"".join(drawn)}</svg>'


def _last(values: Values) -> float:
    there = [float(value) for value in values if not math.isnan(value)]
    return there[-1] if there else math.nan


def _short(value: float) -> str:
    return f"{value:.3g}"
