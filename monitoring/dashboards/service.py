"""Dashboard of the service: traffic, errors, latency, saturation, cold starts."""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.builders.stat import Panel as Stat

from monitoring.dashboards.parts import Rows, heat, lines, new_board, number, quantiles, rates, stacked

_LATENCY = 'http_request_duration_seconds_bucket{job="$job", route="/predict"}'


def board() -> Dashboard:
    """Return the dashboard."""
    rows: Rows = {
        "Objectives, last three days": [
            _kept("Without a server error", "failure", 0.995),
            _kept("Not rejected", "refusal", 0.995),
            _kept("Answered within 1 s", "slow", 0.99),
            number("Alerts", ('sum(ALERTS{job="$job", alertstate="firing"}) or vector(0)', "firing")),
        ],
        "Traffic": [
            stacked(
                "Requests to /predict by status",
                rates("status", 'http_requests_total{job="$job", route="/predict"}'),
            ),
            stacked(
                "Other requests by route",
                rates("route", 'http_requests_total{job="$job", route!="/predict"}'),
            ),
            lines(
                "Errors, last five minutes",
                ('predict:failure_ratio:rate5m{job="$job"}', "server errors"),
                ('predict:refusal_ratio:rate5m{job="$job"}', "rejected"),
                ('predict:slow_ratio:rate5m{job="$job"}', "over 1 s"),
                unit="percentunit",
            ),
        ],
        "Latency": [
            heat("Requests to /predict by latency", _LATENCY, "s"),
            quantiles("Latency of /predict", f"{_LATENCY}[$__rate_interval]", "s"),
            lines(
                "Average time per step",
                (_average("preprocess_duration_seconds"), "decoding"),
                (_average("inference_duration_seconds"), "network"),
                unit="s",
            ),
        ],
        "Saturation": [
            lines(
                "Predictions",
                ('sum(predictions_in_flight{job="$job"})', "in progress"),
                ('sum(predictions_waiting{job="$job"})', "queued"),
                ('sum(predictions_slots{job="$job"})', "workers"),
            ),
            stacked("Rejected by reason", rates("reason", 'predictions_rejected_total{job="$job"}')),
            lines(
                "CPUs in use",
                ('rate(process_cpu_seconds_total{job="$job"}[$__rate_interval])', "{{instance}}"),
            ),
            lines(
                "Memory",
                ('process_resident_memory_bytes{job="$job"}', "{{instance}}"),
                ('process_memory_limit_bytes{job="$job"}', "{{instance}}, limit"),
                unit="bytes",
            ),
            lines(
                "Duration of the last cold start",
                ('service_start_seconds{job="$job"}', "{{instance}}, until ready"),
                ('model_download_seconds{job="$job"}', "{{instance}}, download"),
                ('model_load_seconds{job="$job"}', "{{instance}}, load"),
                unit="s",
            ),
            lines("Uptime", ('time() - process_start_time_seconds{job="$job"}', "{{instance}}"), unit="s"),
        ],
    }
    return new_board("Service", "cats-vs-dogs-service", rows)


def _kept(title: str, ratio: str, objective: float) -> Stat:
    return number(title, (f'1 - predict:{ratio}_ratio:rate3d{{job="$job"}}', ""), "percentunit", objective)


def _average(summary: str) -> str:
    parts = (f'sum(rate({summary}_{part}{{job="$job"}}[$__rate_interval]))' for part in ("sum", "count"))
    return " / ".join(parts)
