"""The page that shows how the rehearsal went: events, accuracies, and what Prometheus has recorded."""

import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from ml.evaluation.metrics import wilson
from ml.model import NAME
from ml.reporting.rendering import render, write
from scripts.reporting import charts
from scripts.reporting.model import DRIFT_ALLOWED
from scripts.reporting.prometheus import Period, Source

CONFIDENCE = 0.95
_STEP_S = 4
_WINDOW = "12s"
_DEPLOYED = "* on (job, instance) group_left (version) model_info{$job}"


class Chart(NamedTuple):
    """What one chart shows: a query, the label that names its series, and what to read from it."""

    title: str
    unit: str
    query: str
    label: str
    text: str


_CHARTS = {
    "traffic": Chart(
        "Answers by model",
        "per second",
        f'sum by (version) (rate(http_requests_total{{$job,route="/predict"}}[{_WINDOW}]) {_DEPLOYED})',
        "version",
        "A canary gets 10 %, then 50 %, and then all photos, or none.",
    ),
    "feedback": Chart(
        "Right answers, according to feedback",
        "share",
        f'sum by (model) (rate(feedback_by_model_total{{$job,correct="true"}}[{_WINDOW}]))'
        f" / sum by (model) (rate(feedback_by_model_total{{$job}}[{_WINDOW}]))",
        "model",
        "By the first digits of the model's SHA-256.",
    ),
    "unknown": Chart(
        "Photos answered unknown",
        "share",
        f'sum by (version) (rate(predictions_total{{$job,label="unknown"}}[{_WINDOW}]) {_DEPLOYED})'
        f" / sum by (version) (rate(predictions_total{{$job}}[{_WINDOW}]) {_DEPLOYED})",
        "version",
        "",
    ),
    "drift": Chart(
        "Drift",
        "distance",
        "model:drift:1h{$job}",
        "statistic",
        "The largest distance of each statistic from that of the photos that the model learned from.",
    ),
    "collected": Chart(
        "Collected photos",
        "photos",
        "sum by (reason) (photos_collected_total{$job})",
        "reason",
        "A photo may have several reasons. Only processes that run are counted.",
    ),
}
_LIMITS = {"drift": {"ModelDrift": DRIFT_ALLOWED}}


@dataclass(frozen=True)
class Accuracy:
    """How many of the judged photos a model classified right."""

    model: str
    right: int
    count: int

    @property
    def low(self) -> float:
        """Lower bound of the accuracy."""
        return wilson(self.right, self.count, CONFIDENCE).low

    @property
    def high(self) -> float:
        """Upper bound of the accuracy."""
        return wilson(self.right, self.count, CONFIDENCE).high


@dataclass(frozen=True)
class Event:
    """Something that happened, some seconds after the start; one with a mark is in the charts."""

    time: float
    seconds: float
    text: str
    mark: str = ""


@dataclass
class Timeline:
    """What happened so far."""

    started: float = field(default_factory=time.time)
    events: list[Event] = field(default_factory=list)
    accuracies: list[Accuracy] = field(default_factory=list)
    reports: list[dict[str, str]] = field(default_factory=list)

    def note(self, text: str, marked: bool = False) -> None:
        """Add an event that happens now."""
        now = time.time()
        mark = str(sum(bool(event.mark) for event in self.events) + 1) if marked else ""
        self.events.append(Event(now, now - self.started, text, mark))


def write_page(timeline: Timeline, prometheus: str, watched_from: float, path: Path) -> None:
    """Write the page, one HTML file that needs no other.

    Args:
        timeline: what happened.
        prometheus: URL of Prometheus.
        watched_from: when it began to scrape, in seconds since 1970.
        path: of the page.

    Raises:
        RequestError: Prometheus does not answer.
        OSError: the page cannot be written.
    """
    end = int(time.time())
    source = Source(prometheus, "", NAME, Period(int(watched_from), end, _STEP_S), 60)
    marks = [event.time for event in timeline.events if event.mark]
    accuracies = ", ".join(f"{one.model}: {one.right / one.count:.1%}" for one in timeline.accuracies)
    sections = {
        "accuracy": {"title": "Accuracy on photos that are upside down", "headline": accuracies},
        "events": {"title": "What happened", "headline": f"{len(timeline.events)} events"},
    }
    drawn = {}
    for name, chart in _CHARTS.items():
        series = source.series(chart.query, chart.label)
        svg = charts.lines(source.period, series, chart.unit, _LIMITS.get(name), marks)
        drawn[name] = {"text": chart.text, "svg": svg or "no data"}
        sections[name] = {"title": chart.title, "headline": f"{len(series)} series" if series else "no data"}
    canaries = f"{len(timeline.reports)} canaries" if timeline.reports else ""
    sections["reports"] = {"title": "Reports of the canaries", "headline": canaries}
    write(
        render(
            "timeline.html.jinja",
            Path(__file__).parent,
            title="From live photos to a better model",
            subtitle=f"Rehearsed within {end - timeline.started:.0f} seconds.",
            sections=sections,
            accuracies=timeline.accuracies,
            events=timeline.events,
            charts=drawn,
            reports=timeline.reports,
        ),
        path,
    )
