"""The page: its parts in order, and the template around them."""

from pathlib import Path

from jinja2 import Environment, FileSystemLoader, StrictUndefined

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
    environment = Environment(
        loader=FileSystemLoader(Path(__file__).parent), autoescape=True, undefined=StrictUndefined
    )
    text = environment.get_template("page.html").render(
        job=source.job,
        start=moment(source.period.start),
        end=moment(source.period.end),
        length=duration(source.period.seconds),
        host=source.url.partition("://")[2],
        sections=sections,
    )
    return text, any(section.chart for section in sections)
