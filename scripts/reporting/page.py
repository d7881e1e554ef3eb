"""The sections of the report in their order, and the page around them."""

from pathlib import Path

from ml.reporting.rendering import render
from scripts.reporting import model, service
from scripts.reporting.charts import duration
from scripts.reporting.prometheus import Source
from scripts.reporting.section import moment

SECTIONS = (
    service.traffic,
    service.objectives,
    service.latency,
    service.rejections,
    service.starts,
    service.alerts,
    model.versions,
    model.labels,
    model.confidence,
    model.drift,
    model.feedback,
)


def page(source: Source) -> tuple[str, bool]:
    """Return the report, and whether it holds any data.

    Raises:
        RequestError: Prometheus does not answer, or rejects a query.
    """
    before = source.before()
    sections = {make.__name__: make(source) for make in SECTIONS}
    earlier = {make.__name__: make(before) for make in SECTIONS}
    charts = {name: section.draw() for name, section in sections.items()}
    tables = {
        name: section.table.compared(other)
        for name, section in sections.items()
        if section.table and (other := earlier[name].table)
    }
    start, end = moment(source.period.start), moment(source.period.end)
    host = source.url.partition("://")[2]
    text = render(
        "service_report.html.jinja",
        Path(__file__).parent,
        sections=sections,
        earlier=earlier,
        charts=charts,
        tables=tables,
        title=source.job,
        subtitle=f"{start} to {end} UTC ({duration(source.period.seconds)}), from {host}. "
        f"Before: the period of the same length from {moment(before.period.start)} on.",
        start=start,
        end=end,
    )
    return text, any(charts.values())
