"""Sections on the service: traffic, objectives, latency, rejected requests, starts, alerts."""

import math
from functools import partial

import numpy as np

from scripts.reporting.charts import duration, lines, spans, stretches
from scripts.reporting.prometheus import Source, Values
from scripts.reporting.section import NONE, Section, Table, count, moment, percent, seconds

OBJECTIVES = {"failure": 0.005, "refusal": 0.005, "slow": 0.01}
"""Share of the requests that is allowed, as in monitoring/rules."""
_BUDGET_DAYS = 30
_TITLES = {"failure": "server errors", "refusal": "rejected", "slow": "slower than 1 s"}
_WINDOWS_S = {"5m": 300, "30m": 1800, "1h": 3600, "6h": 21_600, "3d": 259_200}
_PREDICT = 'route=~"/predict|/v2/.+/infer"'
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
    """Report the requests to /predict by status."""
    total = source.value(_REQUESTS)
    by_status = f'sum by (status) (rate(http_requests_total{{$job, method="POST", {_PREDICT}}}[$rate]))'
    rates = _not_zero(source.series(by_status, "status"))
    photos = source.value("sum(increase(prediction_confidence_count{$job}[$range]))")
    peak = np.nanmax(np.nansum([*rates.values()], axis=0)) if rates else math.nan
    peaks = f", at most {peak:.3g} requests per second over {duration(source.rate_s)}" if rates else ""
    requests = source.values(
        f'sum by (status) (increase(http_requests_total{{$job, method="POST", {_PREDICT}}}[$range]))',
        "status",
    )
    rows = [
        (status, count(number), percent(number / total))
        for status, number in requests.items()
        if number >= 0.5
    ]
    return Section(
        "Traffic",
        count(total, "request"),
        f"Requests to /predict{peaks}. Photos classified: {count(photos)}.",
        partial(lines, source.period, rates, "requests per second"),
        Table(("status", "requests", "share"), rows, compare=1, absent=("0", percent(0))),
    )


def objectives(source: Source) -> Section:
    """Compare the shares of failed, rejected and slow requests with the objectives."""
    period = source.period
    window = next((name for name, length in _WINDOWS_S.items() if length >= period.step), "3d")
    rows, worst, drawn = [], 0.0, {}
    for name, allowed in OBJECTIVES.items():
        ratio = source.value(_RATIOS[name])
        burn = ratio / allowed
        spent = burn * period.seconds / (_BUDGET_DAYS * 86_400)
        worst = max(worst, burn if math.isfinite(burn) else 0.0)
        burn_rate = f"{burn:.2f}" if math.isfinite(burn) else NONE
        rows.append((_TITLES[name], percent(allowed), percent(ratio), burn_rate, percent(spent)))
        for values in source.series(f"max(predict:{name}_ratio:rate{window}{{$job}})").values():
            drawn[_TITLES[name]] = 100 * values
    allowed_lines = {f"{100 * share:g} % allowed": 100 * share for share in sorted(set(OBJECTIVES.values()))}
    return Section(
        "Objectives",
        NONE if all(row[2] == NONE for row in rows) else f"burn rate {worst:.2f}",
        "The burn rate is the measured share divided by the allowed share. At 1 and with even traffic, the "
        f"error budget of {_BUDGET_DAYS} days lasts {_BUDGET_DAYS} days. Each point of the chart covers the "
        f"{window} before it.",
        partial(lines, period, drawn, "% of requests", allowed_lines),
        Table(("requests", "allowed", "in this period", "burn rate", "of the budget"), rows, compare=2),
        bad=worst > 1,
    )


def latency(source: Source) -> Section:
    """Report quantiles of the time to an answer of /predict."""
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
        "Time from a complete request to its answer, without the network; estimated from the histogram.",
        partial(lines, source.period, drawn, "ms"),
        Table(("share of the requests", "within"), rows, compare=1),
    )


def rejections(source: Source) -> Section:
    """Report the rejected requests by reason."""
    reasons = source.values("sum by (reason) (increase(predictions_rejected_total{$job}[$range]))", "reason")
    rates = source.series("sum by (reason) (rate(predictions_rejected_total{$job}[$rate]))", "reason")
    rows = [(reason, count(number)) for reason, number in reasons.items()]
    return Section(
        "Rejected requests",
        count(sum(reasons.values()), "request") if reasons else NONE,
        "Requests without a prediction: the queue is full or too slow, no model is loaded yet, the service "
        "is stopping, or the client disconnected.",
        partial(lines, source.period, _not_zero(rates), "requests per second"),
        Table(("reason", "requests"), rows, compare=1, absent=("0",)),
    )


def starts(source: Source) -> Section:
    """Report the processes that started, and how long the slowest took to load its model."""
    period = source.period
    instances = source.series("count(max_over_time(process_start_time_seconds{$job}[$span]))")
    started = set()
    start_times = "max_over_time(process_start_time_seconds{$job}[$span])"
    for instance, values in source.series(start_times, "instance").items():
        started |= {(round(value, 2), instance) for value in values[np.isfinite(values)]}
    in_period = sorted(time for time, _ in started if time >= period.start)
    slowest = source.value("max(max_over_time(service_start_seconds{$job}[$range]))")
    # A point without `up` is one at which Prometheus did not look. Pushed metrics have no `up`.
    up = source.series(
        "max(max_over_time(up{$job}[$span]))"
        " or on () group(max_over_time(process_start_time_seconds{$job}[$span]))"
    ).get("", np.full(1, np.nan))
    known = up[np.isfinite(up)]
    return Section(
        "Starts",
        count(len(in_period), "start") if started else NONE,
        f"Vertical lines are starts. Slowest load of a model: {seconds(slowest)}. At least one instance up: "
        f"{percent(float(known.mean())) if len(known) else NONE} of the time for which Prometheus has data, "
        f"which is {percent(len(known) / len(up))} of the period.",
        partial(
            lines,
            period,
            {name or "instances": v for name, v in instances.items()},
            "instances",
            marks=in_period,
        ),
        Table(("started",), [(moment(time),) for time in in_period[-20:]]),
    )


def alerts(source: Source) -> Section:
    """Report the alerts that fired."""
    period = source.period
    firing = 'max by (alertname, severity) (max_over_time(ALERTS{$job, alertstate="firing"}[$span]))'
    series = source.series(f'label_join({firing}, "name", ", ", "alertname", "severity")', "name")
    rows = [
        (name, moment(start), moment(end), duration(end - start))
        for name, values in series.items()
        for start, end in stretches(period, values)
    ]
    evaluated = source.values("count(count_over_time(predict:requests:rate5m{$job}[$range]))")
    text = "docs/RUNBOOK.md explains each alert."
    if not rows:
        text = (
            "No alert fired." if evaluated else "Prometheus has not evaluated the rules of monitoring/rules."
        )
    return Section(
        "Alerts",
        f"{count(len(series), 'alert')} fired" if rows or evaluated else NONE,
        text,
        partial(spans, period, series),
        Table(("alert, severity", "from", "to", "for"), sorted(rows, key=lambda row: row[1])),
        bad=bool(rows),
    )


def _not_zero(series: dict[str, Values]) -> dict[str, Values]:
    """Return the series that are not 0 all the time."""
    return {name: values for name, values in series.items() if np.nanmax(values) > 0}
