"""Dashboard of the model: its version, its answers, the photos, drift, and feedback of users."""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.builders.timeseries import Panel
from grafana_foundation_sdk.models.common import BigValueTextMode
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from monitoring.dashboards.parts import Rows, heat, limited, lines, new_board, number, quantiles

DRIFT = 0.25
"""Threshold of the alert ModelDrift."""

_PER_PHOTO = ' / on () group_left sum(increase(prediction_confidence_count{job="$job"}[1h]))'


def board() -> Dashboard:
    """Return the dashboard."""
    version = ('group by (version, arch) (model_info{job="$job"})', "{{version}} ({{arch}})")
    test_accuracy = ('max(model_test_figure{job="$job", figure="accuracy"})', "")
    rows: Rows = {
        "Now": [
            number("Model", version).text_mode(BigValueTextMode.NAME),
            number("Photos in the last hour", ('model:photos:1h{job="$job"}', "")),
            number("Judged correct in the last day", ('feedback:accuracy:1d{job="$job"}', ""), "percentunit"),
            number("Accuracy on the test photos", test_accuracy, "percentunit"),
        ],
        "Answers": [
            lines(
                "Labels, last hour",
                (f'sum by (label) (increase(predictions_total{{job="$job"}}[1h])){_PER_PHOTO}', "{{label}}"),
                ('max by (label) (model_reference_label_share{job="$job"})', "{{label}} expected"),
                unit="percentunit",
            ),
            heat("Answers by confidence", 'prediction_confidence_bucket{job="$job"}', "percentunit"),
            lines(
                "Answers with low confidence, last hour",
                (
                    'sum by (le) (increase(prediction_confidence_bucket{job="$job", le=~"0.9|0.99"}[1h]))'
                    + _PER_PHOTO,
                    "up to {{le}}",
                ),
                (
                    'max by (le) (model_reference_share{job="$job", statistic="confidence", le=~"0.9|0.99"})',
                    "up to {{le}} expected",
                ),
                unit="percentunit",
            ),
        ],
        "Drift from the training reference statistics: 0 same, 1 disjoint; needs 200 photos": [
            _drift("Last hour", 'model:drift:1h{job="$job"}'),
            _drift("Last day", 'model:drift:1d{job="$job"}'),
        ],
        "Photos, last hour": [
            quantiles("Brightness, 0 black to 1 white", 'photo_brightness_bucket{job="$job"}[1h]'),
            quantiles("Width divided by height", 'photo_aspect_ratio_bucket{job="$job"}[1h]'),
            quantiles("Shorter side, pixels", 'photo_short_side_pixels_bucket{job="$job"}[1h]'),
        ],
        "Feedback of users, last day": [
            _accuracy(),
            lines(
                "Judged answers",
                (
                    'sum by (predicted, actual) (increase(feedback_total{job="$job"}[1d]))',
                    "answered {{predicted}}, actually {{actual}}",
                ),
            ).span(12),
        ],
    }
    return new_board("Model", "cats-vs-dogs-model", rows)


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
