"""How the service did: traffic, objectives, latency, refusals, starts, alerts."""

import math

import numpy as np

from reporting.charts import duration, lines, spans, stretches
from reporting.prometheus import Source, Values
from reporting.section import NONE, Section, Table, count, moment, percent, seconds

OBJECTIVES = {"failure": 0.005, "refusal": 0.005, "slow": 0.01}
"""Share of the requests that may end so, as monitoring/rules states it."""
_BUDGET_DAYS = 30
_TITLES = {"failure": "server errors", "refusal": "turned away", "slow": "slower than 1 s"}
_WINDOWS_S = {"5m": 300, "30m": 1800, "1h": 3600, "6h": 21_600, "3d": 259_200}
_PREDICT = 'route="/predict"'
_REQUESTS = (
    f'sum(increase(http_requests_total{{$job, method="POST", {_PREDICT}}}[$range]))'
    ' + (sum(increase(predictions_rejected_total{$job, reason="disconnected"}[$range])) or vector(0))'
)
_ANSWERED = f"sum(increase(http_request_duration_seconds_count{{$job, {_PREDICT}}}[$range]))"
_RATIOS = {
    "failure": f'sum(increase(http_requests_total{{$job, {_PREDICT}, status=~"5..", status!="503"}}[$range]))'
    f" / ({_REQUESTS})",
    "refusal": 'sum(increase(predictions_rejected_total{$job, reason!="draining"}[$range]))'
    f" / ({_REQUESTS})",
    "slow": f'1 - sum(increase(http_request_duration_seconds_bucket{{$job, {_PREDICT}, le="1.0"}}[$range]))'
    f" / {_ANSWERED}",
}


def traffic(source: Source) -> Section:
    """Tell the requests to /predict by status."""
    total = source.value(_REQUESTS)
    by_status = f"sum by (status) (rate(http_requests_total{{$job, {_PREDICT}}}[$rate]))"
    rates = _present(source.series(by_status, "status"))
    photos = source.value("sum(increase(prediction_confidence_count{$job}[$range]))")
    peak = np.nanmax(np.nansum([*rates.values()], axis=0)) if rates else math.nan
    peaks = f"; at most {peak:.3g} a second, in {duration(source.rate_s)} together" if rates else ""
    found = source.values(
        f"sum by (status) (increase(http_requests_total{{$job, {_PREDICT}}}[$range]))", "status"
    )
    rows = [
        (status, count(number), percent(number / total)) for status, number in found.items() if number >= 0.5
    ]
    return Section(
        "Traffic",
        count(total, "request", "requests"),
        f"To /predict, with {count(photos, 'photo', 'photos')} answered{peaks}.",
        lines(source.period, rates, "requests a second"),
        Table(("status", "requests", "share"), rows),
    )


def objectives(source: Source) -> Section:
    """Tell the shares of requests that ended badly, against what is allowed."""
    period = source.period
    window = next((name for name, length in _WINDOWS_S.items() if length >= period.step), "3d")
    rows, worst, drawn = [], 0.0, {}
    for name, allowed in OBJECTIVES.items():
        ratio = source.value(_RATIOS[name])
        burn = ratio / allowed
        spent = burn * period.seconds / (_BUDGET_DAYS * 86_400)
        worst = max(worst, burn if math.isfinite(burn) else 0.0)
        spelled = f"{burn:.2f}" if math.isfinite(burn) else NONE
        rows.append((_TITLES[name], percent(allowed), percent(ratio), spelled, percent(spent)))
        for values in source.series(f"max(predict:{name}_ratio:rate{window}{{$job}})").values():
            drawn[_TITLES[name]] = 100 * values
    allowed_lines = {f"{100 * share:g} % allowed": 100 * share for share in sorted(set(OBJECTIVES.values()))}
    return Section(
        "Objectives",
        NONE if all(row[2] == NONE for row in rows) else f"burn rate {worst:.2f}",
        "The burn rate is the share found over the share allowed: at 1, and with even traffic, the budget of "
        f"{_BUDGET_DAYS} days lasts {_BUDGET_DAYS} days. The chart shows the last {window} at each moment.",
        lines(period, drawn, "% of requests", allowed_lines),
        Table(("requests", "allowed", "in this period", "burn rate", "of the budget spent"), rows),
        bad=worst > 1,
    )


def latency(source: Source) -> Section:
    """Tell quantiles of the time to an answer of /predict."""
    bucket = f"sum by (le) (rate(http_request_duration_seconds_bucket{{$job, {_PREDICT}}}[%s]))"
    rows, drawn = [], {}
    for quantile in (0.5, 0.9, 0.99):
        name = f"{100 * quantile:g} %"
        rows.append((name, seconds(source.value(f"histogram_quantile({quantile}, {bucket % '$range'})"))))
        for values in source.series(f"histogram_quantile({quantile}, {bucket % '$rate'})").values():
            drawn[name] = 1000 * values
    return Section(
        "Latency",
        rows[-1][1] if rows[-1][1] == NONE else f"99 % within {rows[-1][1]}",
        "From a complete request to its answer, without the network between; estimated from the histogram.",
        lines(source.period, drawn, "ms"),
        Table(("of the requests", "within"), rows),
    )


def refusals(source: Source) -> Section:
    """Tell the requests turned away, by reason."""
    found = source.values("sum by (reason) (increase(predictions_rejected_total{$job}[$range]))", "reason")
    rates = source.series("sum by (reason) (rate(predictions_rejected_total{$job}[$rate]))", "reason")
    return Section(
        "Refusals",
        count(sum(found.values()), "refusal", "refusals") if found else NONE,
        "Requests turned away unpredicted: the line is full or too slow, there is no model yet, the service "
        "is stopping, or the client has gone.",
        lines(source.period, _present(rates), "refusals a second"),
        Table(("reason", "requests"), [(reason, count(number)) for reason, number in found.items()]),
    )


def starts(source: Source) -> Section:
    """Tell which processes started, and how long the slowest took to its model."""
    period = source.period
    reported = source.series("count(max_over_time(process_start_time_seconds{$job}[$span]))")
    begun = set()
    for values in source.series(
        "max_over_time(process_start_time_seconds{$job}[$span])", "instance"
    ).values():
        begun |= {round(value, 2) for value in values[np.isfinite(values)]}
    fresh = sorted(when for when in begun if when >= period.start)
    slowest = source.value("max(max_over_time(service_start_seconds{$job}[$range]))")
    seen = np.nan_to_num(next(iter(reported.values()), np.zeros(1))) > 0
    return Section(
        "Starts",
        count(len(fresh), "start", "starts") if begun else NONE,
        f"The slowest took {seconds(slowest)} from the start of its process to a loaded model. Some instance "
        f"was seen {percent(float(seen.mean()))} of the time; vertical lines are starts.",
        lines(period, {"instances": reported[""]}, "instances", marks=fresh) if reported else None,
        Table(("started",), [(moment(when),) for when in fresh[-20:]]),
    )


def alerts(source: Source) -> Section:
    """Tell the alerts that fired."""
    period = source.period
    firing = 'max by (alertname, severity) (max_over_time(ALERTS{$job, alertstate="firing"}[$span]))'
    series = source.series(f'label_join({firing}, "name", ", ", "alertname", "severity")', "name")
    rows = [
        (name, moment(begun), moment(ended), duration(ended - begun))
        for name, values in series.items()
        for begun, ended in stretches(period, values)
    ]
    return Section(
        "Alerts",
        count(len(series), "alert fired", "alerts fired"),
        "docs/RUNBOOK.md has a section for each." if rows else "None fired, or Prometheus has no rules.",
        spans(period, series),
        Table(("alert, severity", "from", "to", "for"), sorted(rows, key=lambda row: row[1])),
        bad=bool(rows),
    )


def _present(series: dict[str, Values]) -> dict[str, Values]:
    """Return the series that aren't 0 all the time."""
    return {name: values for name, values in series.items() if np.nanmax(values) > 0}
