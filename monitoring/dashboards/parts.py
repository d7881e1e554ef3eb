"""Building blocks of the dashboards.

Every panel has a text: what it shows, what is usual, and where to look if it isn't.
"""

from collections.abc import Mapping

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import GraphThresholdsStyleMode, StackingMode
from grafana_foundation_sdk.models.dashboard import (
    AnnotationQuery,
    DashboardCursorSync,
    DashboardLinkType,
    DataSourceRef,
    DynamicConfigValue,
    Threshold,
    VariableOption,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")  # grafana/provisioning/datasources
RUNBOOK = "https://github.com/OWNER/cats-vs-dogs/blob/main/docs/RUNBOOK.md"
"""`make owner` writes your repository's name into it."""
LOGS = f"{RUNBOOK}#logs"
"""Where the link *Logs* leads: by default to the commands that show them; put your log viewer's here."""
OF = 'job="$job", instance=~"$instance"'
"""Matchers of the selected processes. What rules record has no instance: it is about all of them."""

Query = tuple[str, str]
"""PromQL expression, and the legend of its series."""
Rows = dict[str, list[timeseries.Panel | heatmap.Panel | stat.Panel]]
"""Panels by the title of their row."""

_DASHED = [
    DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 8]}),
    DynamicConfigValue("custom.fillOpacity", 0),
]


def new_board(title: str, uid: str, rows: Rows) -> dashboard.Dashboard:
    """Return the dashboard of the job and instances selected at its top; deployments are marked.

    Args:
        title: of the dashboard.
        uid: Grafana's id for it.
        rows: of panels.
    """
    job = dashboard.QueryVariable("job").datasource(SOURCE).query("label_values(predictions_workers, job)")
    instance = (
        dashboard.QueryVariable("instance")
        .datasource(SOURCE)
        .query('label_values(predictions_workers{job="$job"}, instance)')
        .multi(True)
        .include_all(True)
        .all_value(".*")
        .current(VariableOption(text="All", value="$__all"))
    )
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .tags(["cats-vs-dogs"])
        .refresh("30s")
        .time("now-3h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(job.refresh(VariableRefresh.ON_DASHBOARD_LOAD))
        .with_variable(instance.refresh(VariableRefresh.ON_TIME_RANGE_CHANGED))
        .annotation(
            _marks(
                "Model changes",
                "purple",
                'group by (job, version, sha256) (model_info{job="$job"})'
                ' unless on (job, version, sha256) model_info{job="$job"} offset 5m',
                {"titleFormat": "model {{version}}", "textFormat": "{{sha256}}"},
            )
        )
        .annotation(
            _marks(
                "Starts",
                "blue",
                f"time() - process_start_time_seconds{{{OF}}} < 300",
                {"titleFormat": "start", "textFormat": "{{instance}}"},
            )
        )
        .link(_link("Dashboards", "").type(DashboardLinkType.DASHBOARDS).tags(["cats-vs-dogs"]))
        .link(_link("Runbook", RUNBOOK))
        .link(_link("Logs", LOGS))
    )
    for heading, panels in rows.items():
        made.with_row(dashboard.Row(heading))
        for panel in panels:
            made.with_panel(panel)
    return made


def _link(title: str, url: str) -> dashboard.DashboardLink:
    """Return a link at the top of a dashboard; one to a dashboard keeps the time and the selection."""
    link = dashboard.DashboardLink(title).url(url).type(DashboardLinkType.LINK).target_blank(bool(url))
    return link.keep_time(not url).include_vars(not url)


def _marks(name: str, colour: str, expression: str, texts: dict[str, str]) -> dashboard.AnnotationQuery:
    """Return marks at the points in time at which an expression has series."""
    marks = dashboard.AnnotationQuery()
    query = _Marks(name=name, datasource=SOURCE, icon_color=colour, expr=expression)
    query.texts = texts
    marks._internal = query
    return marks


class _Marks(AnnotationQuery):
    """Has keys that Grafana's Prometheus data source reads but the library does not know."""

    texts: Mapping[str, str]

    def to_json(self) -> dict[str, object]:
        return super().to_json() | dict(self.texts) | {"step": "15s"}


def lines(title: str, text: str, *queries: Query, unit: str = "short") -> timeseries.Panel:
    """Return a line chart that starts at 0; series whose name ends with `expected` are dashed."""
    panel = timeseries.Panel().title(title).description(text).datasource(SOURCE).height(8).span(8)
    for name, (expression, legend) in zip("ABCDEFGH", queries, strict=False):
        panel.with_target(_query(expression, legend).ref_id(name))
    return panel.unit(unit).min(0).fill_opacity(5).override_by_regexp("/expected$/", _DASHED)


def stacked(title: str, text: str, query: Query) -> timeseries.Panel:
    """Return a stacked area chart of requests per second."""
    stacking = common.StackingConfig().mode(StackingMode.NORMAL)
    return lines(title, text, query, unit="reqps").stacking(stacking).fill_opacity(40)


def rates(label: str, counter: str) -> Query:
    """Return the rate of a counter, one series per value of the label."""
    return f"sum by ({label}) (rate({counter}[$__rate_interval]))", f"{{{{{label}}}}}"


def quantiles(title: str, text: str, buckets: str, unit: str = "short") -> timeseries.Panel:
    """Return a chart of the median, 90th and 99th percentile of a histogram; `buckets` is a range vector."""
    each = f"sum by (le) (rate({buckets}))"
    shown = [(f"histogram_quantile({share}, {each})", f"{share:.0%}") for share in (0.5, 0.9, 0.99)]
    return lines(title, text, *shown, unit=unit)


def heat(title: str, text: str, buckets: str, unit: str) -> heatmap.Panel:
    """Return the heat map of a histogram; `buckets` is the series of its buckets."""
    panel = heatmap.Panel().title(title).description(text).datasource(SOURCE).height(8).span(8)
    query = _query(f"sum by (le) (increase({buckets}[$__rate_interval]))", "{{le}}")
    return panel.with_target(query.format(PromQueryFormat.HEATMAP)).y_axis(heatmap.YAxisConfig().unit(unit))


def number(
    title: str, text: str, query: Query, unit: str = "short", least: float | None = None
) -> stat.Panel:
    """Return a panel of one current number; it is red below `least`."""
    panel = stat.Panel().title(title).description(text).datasource(SOURCE).height(4).span(6)
    steps = [Threshold(None, "green")]
    if least is not None:
        steps = [Threshold(None, "red"), Threshold(least, "green")]
    thresholds = dashboard.ThresholdsConfig().steps(steps)
    return panel.with_target(_query(*query).instant()).unit(unit).thresholds(thresholds)


def limited(panel: timeseries.Panel, limit: float) -> timeseries.Panel:
    """Draw a line at the threshold of the alert."""
    steps = [Threshold(None, "transparent"), Threshold(limit, "red")]
    style = common.GraphThresholdsStyleConfig().mode(GraphThresholdsStyleMode.LINE)
    return panel.thresholds(dashboard.ThresholdsConfig().steps(steps)).thresholds_style(style)


def _query(expression: str, legend: str) -> prometheus.Dataquery:
    return prometheus.Dataquery().expr(expression).legend_format(legend).range()
