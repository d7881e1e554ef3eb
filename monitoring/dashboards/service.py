"""Dashboard of the service: traffic, errors, latency, saturation, cold starts."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.builders.stat import Panel as Stat

from monitoring.dashboards.parts import board as new
from monitoring.dashboards.parts import heat, lines, number, quantiles, rates, stacked

_LATENCY = 'http_request_duration_seconds_bucket{job="$job", route="/predict"}'


def board() -> Dashboard:
    """Return the dashboard."""
    return (
        new("Service", "cats-vs-dogs-service")
        .with_row(Row("Objectives, last three days"))
        .with_panel(_kept("Without a server error", "failure", 0.995))
        .with_panel(_kept("Not rejected", "refusal", 0.995))
        .with_panel(_kept("Answered within 1 s", "slow", 0.99))
        .with_panel(number("Alerts", ('sum(ALERTS{job="$job", alertstate="firing"}) or vector(0)', "firing")))
        .with_row(Row("Traffic"))
        .with_panel(
            stacked(
                "Requests to /predict by status",
                rates("status", 'http_requests_total{job="$job", route="/predict"}'),
                "reqps",
            )
        )
        .with_panel(
            stacked(
                "Other requests by route",
                rates("route", 'http_requests_total{job="$job", route!="/predict"}'),
                "reqps",
            )
        )
        .with_panel(
            lines(
                "Errors, last five minutes",
                ('predict:failure_ratio:rate5m{job="$job"}', "server errors"),
                ('predict:refusal_ratio:rate5m{job="$job"}', "rejected"),
                ('predict:slow_ratio:rate5m{job="$job"}', "over 1 s"),
                unit="percentunit",
            )
        )
        .with_row(Row("Latency"))
        .with_panel(heat("Requests to /predict by latency", _LATENCY, "s"))
        .with_panel(quantiles("Latency of /predict", f"{_LATENCY}[$__rate_interval]", "s"))
        .with_panel(
            lines(
                "Average time per step",
                (_average("preprocess_duration_seconds"), "decoding"),
                (_average("inference_duration_seconds"), "network"),
                unit="s",
            )
        )
        .with_row(Row("Saturation"))
        .with_panel(
            lines(
                "Predictions",
                ('sum(predictions_in_flight{job="$job"})', "in progress"),
                ('sum(predictions_waiting{job="$job"})', "queued"),
                ('sum(predictions_slots{job="$job"})', "workers"),
            )
        )
        .with_panel(
            stacked(
                "Rejected by reason",
                rates("reason", 'predictions_rejected_total{job="$job"}'),
                "reqps",
            )
        )
        .with_panel(
            lines(
                "CPUs in use",
                ('rate(process_cpu_seconds_total{job="$job"}[$__rate_interval])', "{{instance}}"),
            )
        )
        .with_panel(
            lines(
                "Memory",
                ('process_resident_memory_bytes{job="$job"}', "{{instance}}"),
                ('process_memory_limit_bytes{job="$job"}', "{{instance}}, limit"),
                unit="bytes",
            )
        )
        .with_panel(
            lines(
                "Duration of the last cold start",
                ('service_start_seconds{job="$job"}', "{{instance}}, until ready"),
                ('model_download_seconds{job="$job"}', "{{instance}}, download"),
                ('model_load_seconds{job="$job"}', "{{instance}}, load"),
                unit="s",
            )
        )
        .with_panel(
            lines(
                "Uptime",
                ('time() - process_start_time_seconds{job="$job"}', "{{instance}}"),
                unit="s",
            )
        )
    )


def _kept(title: str, ratio: str, objective: float) -> Stat:
    return number(title, (f'1 - predict:{ratio}_ratio:rate3d{{job="$job"}}', ""), "percentunit", objective)


def _average(summary: str) -> str:
    parts = (f'sum(rate({summary}_{part}{{job="$job"}}[$__rate_interval]))' for part in ("sum", "count"))
    return " / ".join(parts)
