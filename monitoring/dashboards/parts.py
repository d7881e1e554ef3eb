"""Building blocks of the dashboards."""

from grafana_foundation_sdk.builders import common, dashboard, heatmap, prometheus, stat, timeseries
from grafana_foundation_sdk.models.common import GraphThresholdsStyleMode, StackingMode
from grafana_foundation_sdk.models.dashboard import (
    AnnotationQuery,
    DashboardCursorSync,
    DataSourceRef,
    DynamicConfigValue,
    Threshold,
    VariableRefresh,
)
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

SOURCE = DataSourceRef(type_val="prometheus", uid="prometheus")  # grafana/provisioning/datasources

Query = tuple[str, str]
"""PromQL expression, and the legend of its series."""
Rows = dict[str, list[timeseries.Panel | heatmap.Panel | stat.Panel]]
"""Panels by the title of their row."""

_DASHED = [
    DynamicConfigValue("custom.lineStyle", {"fill": "dash", "dash": [8, 8]}),
    DynamicConfigValue("custom.fillOpacity", 0),
]


def new_board(title: str, uid: str, rows: Rows) -> dashboard.Dashboard:
    """Return the dashboard of the job selected at its top; changes of the model are marked.

    Args:
        title: of the dashboard.
        uid: Grafana's id for it.
        rows: of panels.
    """
    job = dashboard.QueryVariable("job").datasource(SOURCE).query("label_values(predictions_slots, job)")
    changes = dashboard.AnnotationQuery()
    changes._internal = _Changes(
        name="Model changes",
        datasource=SOURCE,
        icon_color="purple",
        expr='group by (job, version, sha256) (model_info{job="$job"})'
        ' unless on (job, version, sha256) model_info{job="$job"} offset 5m',
    )
    made = (
        dashboard.Dashboard(title)
        .uid(uid)
        .tags(["cats-vs-dogs"])
        .refresh("30s")
        .time("now-3h", "now")
        .tooltip(DashboardCursorSync.CROSSHAIR)
        .with_variable(job.refresh(VariableRefresh.ON_DASHBOARD_LOAD))
        .annotation(changes)
    )
    for heading, panels in rows.items():
        made.with_row(dashboard.Row(heading))
        for panel in panels:
            made.with_panel(panel)
    return made


class _Changes(AnnotationQuery):
    """Has keys that Grafana's Prometheus data source reads but the library does not know."""

    def to_json(self) -> dict[str, object]:
        named = {"titleFormat": "model {{version}}", "textFormat": "{{sha256}}", "step": "15s"}
        return super().to_json() | named


def lines(title: str, *queries: Query, unit: str = "short") -> timeseries.Panel:
    """Return a line chart that starts at 0; series whose name ends with `expected` are dashed."""
    panel = timeseries.Panel().title(title).datasource(SOURCE).height(8).span(8)
    for name, (expression, legend) in zip("ABCDEFGH", queries, strict=False):
        panel.with_target(_query(expression, legend).ref_id(name))
    return panel.unit(unit).min(0).fill_opacity(5).override_by_regexp("/expected$/", _DASHED)


def stacked(title: str, query: Query) -> timeseries.Panel:
    """Return a stacked area chart of requests per second."""
    stacking = common.StackingConfig().mode(StackingMode.NORMAL)
    return lines(title, query, unit="reqps").stacking(stacking).fill_opacity(40)


def rates(label: str, counter: str) -> Query:
    """Return the rate of a counter, one series per value of the label."""
    return f"sum by ({label}) (rate({counter}[$__rate_interval]))", f"{{{{{label}}}}}"


def quantiles(title: str, buckets: str, unit: str = "short") -> timeseries.Panel:
    """Return a chart of the median, 90th and 99th percentile of a histogram; `buckets` is a range vector."""
    each = f"sum by (le) (rate({buckets}))"
    shown = [(f"histogram_quantile({share}, {each})", f"{share:.0%}") for share in (0.5, 0.9, 0.99)]
    return lines(title, *shown, unit=unit)


def heat(title: str, buckets: str, unit: str) -> heatmap.Panel:
    """Return the heat map of a histogram; `buckets` is the series of its buckets."""
    panel = heatmap.Panel().title(title).datasource(SOURCE).height(8).span(8)
    query = _query(f"sum by (le) (increase({buckets}[$__rate_interval]))", "{{le}}")
    return panel.with_target(query.format(PromQueryFormat.HEATMAP)).y_axis(heatmap.YAxisConfig().unit(unit))


def number(title: str, query: Query, unit: str = "short", least: float | None = None) -> stat.Panel:
    """Return a panel of one current number; it is red below `least`."""
    panel = stat.Panel().title(title).datasource(SOURCE).height(4).span(6)
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
