"""Dashboard of the service: traffic, errors, latency, saturation, cold starts."""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.builders.stat import Panel as Stat

from monitoring.dashboards.parts import (
    OF,
    Rows,
    heat,
    limited,
    lines,
    new_board,
    number,
    quantiles,
    rates,
    stacked,
)

_LATENCY = f'http_request_duration_seconds_bucket{{{OF}, route=~"/predict|/v2/.+/infer"}}'
SURGE = 0.2
"""Threshold of the alert ClientErrorsSurging."""


def board() -> Dashboard:
    """Return the dashboard."""
    rows: Rows = {
        "Objectives, last three days": [
            _kept("Without a server error", "Alert PredictFailing.", "failure", 0.995),
            _kept("Not rejected", "Alert PredictRefusing.", "refusal", 0.995),
            _kept("Answered within 1 s", "Alert PredictSlow.", "slow", 0.99),
            number(
                "Alerts",
                "Alerts about this job that fire now, also those that Alertmanager inhibits or silences. "
                "The runbook says what to do about each.",
                ('sum(ALERTS{job="$job", alertstate="firing"}) or vector(0)', "firing"),
            ),
        ],
        "Traffic": [
            stacked(
                "Requests to /predict by status",
                "200: answered. 4xx: a mistake of the client. 503: no capacity or no model, see *Rejected by "
                "reason*. Other 5xx: a fault of the service, whose traceback is in the log.",
                rates(
                    "status", f'http_requests_total{{{OF}, method="POST", route=~"/predict|/v2/.+/infer"}}'
                ),
            ),
            stacked(
                "Other requests by route",
                "`unmatched` are paths that do not exist, mostly scanners. /health and /ready are the "
                "platform's probes.",
                rates("route", f'http_requests_total{{{OF}, route!~"/predict|/v2/.+/infer"}}'),
            ),
            lines(
                "Errors, last five minutes",
                "Shares of the requests to /predict of all instances that do not meet an objective. "
                "Normally 0.",
                ('predict:failure_ratio:rate5m{job="$job"}', "server errors"),
                ('predict:refusal_ratio:rate5m{job="$job"}', "rejected"),
                ('predict:slow_ratio:rate5m{job="$job"}', "over 1 s"),
                unit="percentunit",
            ),
            limited(
                lines(
                    "Clients' mistakes, last half hour",
                    "Shares of the requests to /predict of all instances, by status. 400: no image. 401: no "
                    "valid key. 408: too slow. 413: too large. 415: no image type that is accepted. 422: "
                    "damaged. 429: too many requests. Above the line, ClientErrorsSurging fires if the day "
                    "before was better.",
                    ('predict:client_error_ratio:rate30m{job="$job"}', "{{status}}"),
                    unit="percentunit",
                ),
                SURGE,
            ).span(24),
        ],
        "Latency": [
            heat(
                "Requests to /predict by latency",
                "From the complete request to its response, including the time in the queue. A second band "
                "far above the first one: photos wait, or some photos are huge.",
                _LATENCY,
                "s",
            ),
            quantiles(
                "Latency of /predict",
                "Estimated from the histogram, including the time in the queue. The objective: 99 % within "
                "1 s.",
                f"{_LATENCY}[$__rate_interval]",
                "s",
            ),
            lines(
                "Average time per step",
                "Usual on a CPU with VNNI: 1 to 2 ms for decoding, 3 to 5 ms for the network; on a slow CPU "
                "without it, 15 to 20 ms together. Slower decoding: larger photos. A slower network: less "
                "CPU than expected.",
                (_average("preprocess_duration_seconds"), "decoding"),
                (_average("inference_duration_seconds"), "network"),
                unit="s",
            ),
        ],
        "Saturation": [
            lines(
                "Predictions",
                "If `in progress` stays at `workers`, photos are queued, and then rejected. Alert Saturated.",
                (f"sum(predictions_in_flight{{{OF}}})", "in progress"),
                (f"sum(predictions_waiting{{{OF}}})", "queued"),
                (f"sum(predictions_workers{{{OF}}})", "workers"),
            ),
            stacked(
                "Rejected by reason",
                "Normally 0. The runbook's section PredictRefusing explains the reasons.",
                rates("reason", f"predictions_rejected_total{{{OF}}}"),
            ),
            lines(
                "CPUs in use",
                "Per instance; 1 is one CPU. A flat top below the expected number: the host throttles the "
                "process.",
                (f"rate(process_cpu_seconds_total{{{OF}}}[$__rate_interval])", "{{instance}}"),
            ),
            lines(
                "Memory",
                "Per instance, with its limit if it has one. 120 to 140 MB are usual, more while large "
                "photos are decoded. At the limit the process is killed. Alert MemoryNearLimit.",
                (f"process_resident_memory_bytes{{{OF}}}", "{{instance}}"),
                (f"process_memory_limit_bytes{{{OF}}}", "{{instance}}, limit"),
                unit="bytes",
            ),
            lines(
                "Duration of the last cold start",
                "From the start of the process until it is ready, and its parts. Usual: a second plus the "
                "download.",
                (f"service_start_seconds{{{OF}}}", "{{instance}}, until ready"),
                (f"model_download_seconds{{{OF}}}", "{{instance}}, download"),
                (f"model_load_seconds{{{OF}}}", "{{instance}}, load"),
                unit="s",
            ),
            lines(
                "Uptime",
                "Since the process started. A saw-tooth: it ends again and again. Alert ServiceRestarting.",
                (f"time() - process_start_time_seconds{{{OF}}}", "{{instance}}"),
                unit="s",
            ),
        ],
    }
    return new_board("Service", "cats-vs-dogs-service", rows)


def _kept(title: str, alert: str, ratio: str, objective: float) -> Stat:
    text = f"Share of the requests to /predict of all instances. The objective is {objective:.1%}. {alert}"
    query = (f'1 - predict:{ratio}_ratio:rate3d{{job="$job"}}', "")
    return number(title, text, query, "percentunit", objective)


def _average(summary: str) -> str:
    parts = (f"sum(rate({summary}_{part}{{{OF}}}[$__rate_interval]))" for part in ("sum", "count"))
    return " / ".join(parts)
