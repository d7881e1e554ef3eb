"""Dashboard of the model: its version, its answers, the photos, drift, and feedback of users."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.builders.timeseries import Panel
from grafana_foundation_sdk.models.common import BigValueTextMode
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from monitoring.dashboards.parts import board as new
from monitoring.dashboards.parts import heat, limited, lines, number, quantiles

DRIFT = 0.25
"""Threshold of the alert ModelDrift."""

_PHOTOS = 'sum(increase(prediction_confidence_count{job="$job"}[1h]))'


def board() -> Dashboard:
    """Return the dashboard."""
    version = ('group by (version, arch) (model_info{job="$job"})', "{{version}} ({{arch}})")
    return (
        new("Model", "cats-vs-dogs-model")
        .with_row(Row("Now"))
        .with_panel(number("Model", version).text_mode(BigValueTextMode.NAME))
        .with_panel(number("Photos in the last hour", ('model:photos:1h{job="$job"}', "")))
        .with_panel(
            number("Judged correct in the last day", ('feedback:accuracy:1d{job="$job"}', ""), "percentunit")
        )
        .with_panel(
            number(
                "Accuracy on the test photos",
                ('max(model_test_figure{job="$job", figure="accuracy"})', ""),
                "percentunit",
            )
        )
        .with_row(Row("Answers"))
        .with_panel(
            lines(
                "Labels, last hour",
                (
                    'sum by (label) (increase(predictions_total{job="$job"}[1h]))'
                    f" / on () group_left {_PHOTOS}",
                    "{{label}}",
                ),
                ('max by (label) (model_reference_label_share{job="$job"})', "{{label}} expected"),
                unit="percentunit",
            )
        )
        .with_panel(heat("Answers by confidence", 'prediction_confidence_bucket{job="$job"}', "percentunit"))
        .with_panel(
            lines(
                "Answers with low confidence, last hour",
                (
                    'sum by (le) (increase(prediction_confidence_bucket{job="$job", le=~"0.9|0.99"}[1h]))'
                    f" / on () group_left {_PHOTOS}",
                    "up to {{le}}",
                ),
                (
                    'max by (le) (model_reference_share{job="$job", statistic="confidence", le=~"0.9|0.99"})',
                    "up to {{le}} expected",
                ),
                unit="percentunit",
            )
        )
        .with_row(Row("Drift from the training reference statistics: 0 same, 1 disjoint; needs 200 photos"))
        .with_panel(_drift("Last hour", 'model:drift:1h{job="$job"}'))
        .with_panel(_drift("Last day", 'model:drift:1d{job="$job"}'))
        .with_row(Row("Photos, last hour"))
        .with_panel(quantiles("Brightness, 0 black to 1 white", 'photo_brightness_bucket{job="$job"}[1h]'))
        .with_panel(quantiles("Width divided by height", 'photo_aspect_ratio_bucket{job="$job"}[1h]'))
        .with_panel(quantiles("Shorter side, pixels", 'photo_short_side_pixels_bucket{job="$job"}[1h]'))
        .with_row(Row("Feedback of users, last day"))
        .with_panel(_accuracy())
        .with_panel(
            lines(
                "Judged answers",
                (
                    'sum by (predicted, actual) (increase(feedback_total{job="$job"}[1d]))',
                    "answered {{predicted}}, actually {{actual}}",
                ),
            ).span(12)
        )
    )


def _drift(title: str, query: str) -> Panel:
    return limited(lines(title, (query, "{{statistic}}")), DRIFT).max(1).span(12)


def _accuracy() -> Panel:
    bare = DynamicConfigValue("custom.lineWidth", 0)
    band = [DynamicConfigValue("custom.fillBelowTo", "lower bound"), bare]
    return (
        lines(
            "Judged correct, with the 95 % interval, and the test accuracy",
            ('feedback:accuracy_high:1d{job="$job"}', "upper bound"),
            ('feedback:accuracy:1d{job="$job"}', "judged correct"),
            ('feedback:accuracy_low:1d{job="$job"}', "lower bound"),
            (
                'max by (figure) (model_test_figure{job="$job", figure=~"accuracy(_low|_high)?"})',
                "{{figure}} expected",
            ),
            unit="percentunit",
        )
        .override_by_name("upper bound", band)
        .override_by_name("lower bound", [bare])
        .span(12)
    )
