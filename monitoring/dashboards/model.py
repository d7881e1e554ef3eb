"""Dashboard of the model: which it is, what it answers, to which photos, and what users say."""

from grafana_foundation_sdk.builders.dashboard import Dashboard, Row
from grafana_foundation_sdk.builders.timeseries import Panel
from grafana_foundation_sdk.models.common import BigValueTextMode
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from monitoring.dashboards.parts import board as new
from monitoring.dashboards.parts import heat, limited, lines, number, quantiles

DRIFT = 0.25
"""Threshold of ModelDrift."""

_PHOTOS = 'sum(increase(prediction_confidence_count{job="$job"}[1h]))'


def board() -> Dashboard:
    """Return it."""
    version = ('group by (version, arch) (model_info{job="$job"})', "{{version}} ({{arch}})")
    return (
        new("Model", "cats-vs-dogs-model")
        .with_row(Row("Now"))
        .with_panel(number("Model", version).text_mode(BigValueTextMode.NAME))
        .with_panel(number("Photos in the last hour", ('model:photos:1h{job="$job"}', "")))
        .with_panel(
            number("Called right in the last day", ('feedback:accuracy:1d{job="$job"}', ""), "percentunit")
        )
        .with_panel(
            number(
                "Right on the test photos",
                ('max(model_test_figure{job="$job", figure="accuracy"})', ""),
                "percentunit",
            )
        )
        .with_row(Row("Answers"))
        .with_panel(
            lines(
                "Labels, in an hour",
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
                "Answers of little confidence, in an hour",
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
        .with_row(Row("Distance from what the model was made with: 0 alike, 1 apart; from 200 photos on"))
        .with_panel(_drift("In an hour", 'model:drift:1h{job="$job"}'))
        .with_panel(_drift("In a day", 'model:drift:1d{job="$job"}'))
        .with_row(Row("Photos, in an hour"))
        .with_panel(quantiles("Brightness, 0 black to 1 white", 'photo_brightness_bucket{job="$job"}[1h]'))
        .with_panel(quantiles("Width by height", 'photo_aspect_ratio_bucket{job="$job"}[1h]'))
        .with_panel(quantiles("Shorter side, pixels", 'photo_short_side_pixels_bucket{job="$job"}[1h]'))
        .with_row(Row("What users say, in a day"))
        .with_panel(_accuracy())
        .with_panel(
            lines(
                "Answers that were judged",
                (
                    'sum by (predicted, actual) (increase(feedback_total{job="$job"}[1d]))',
                    "{{predicted}}, was {{actual}}",
                ),
            ).span(12)
        )
    )


def _drift(title: str, query: str) -> Panel:
    return limited(lines(title, (query, "{{statistic}}")), DRIFT).max(1).span(12)


def _accuracy() -> Panel:
    bare = DynamicConfigValue("custom.lineWidth", 0)
    band = [DynamicConfigValue("custom.fillBelowTo", "lower end"), bare]
    return (
        lines(
            "Called right, with the 95 % interval, beside the test's",
            ('feedback:accuracy_high:1d{job="$job"}', "upper end"),
            ('feedback:accuracy:1d{job="$job"}', "called right"),
            ('feedback:accuracy_low:1d{job="$job"}', "lower end"),
            (
                'max by (figure) (model_test_figure{job="$job", figure=~"accuracy(_low|_high)?"})',
                "{{figure}} expected",
            ),
            unit="percentunit",
        )
        .override_by_name("upper end", band)
        .override_by_name("lower end", [bare])
        .span(12)
    )
