"""The page: its parts in order, and the template around them."""

from pathlib import Path

from ml.report.page import render
from reporting import model, service
from reporting.charts import duration
from reporting.prometheus import Source
from reporting.section import moment

SECTIONS = (
    service.traffic,
    service.objectives,
    service.latency,
    service.refusals,
    service.starts,
    service.alerts,
    model.versions,
    model.labels,
    model.confidence,
    model.drift,
    model.feedback,
)


def page(source: Source) -> tuple[str, bool]:
    """Return the report, and whether there is anything in it.

    Raises:
        ServiceError: Prometheus doesn't answer, or refuses a query.
    """
    sections = [make(source) for make in SECTIONS]
    start, end = moment(source.period.start), moment(source.period.end)
    length, host = duration(source.period.seconds), source.url.partition("://")[2]
    text = render(
        Path(__file__).with_name("page.html"),
        sections,
        title=source.job,
        subtitle=f"{start} to {end} UTC ({length}), from {host}",
        start=start,
        end=end,
    )
    return text, any(section.chart for section in sections)
