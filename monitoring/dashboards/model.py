"""Dashboard of the model: its version, its answers, the photos, drift, and feedback of users."""

from grafana_foundation_sdk.builders.dashboard import Dashboard
from grafana_foundation_sdk.builders.timeseries import Panel
from grafana_foundation_sdk.models.common import BigValueTextMode
from grafana_foundation_sdk.models.dashboard import DynamicConfigValue

from monitoring.dashboards.parts import OF, Rows, heat, limited, lines, new_board, number, quantiles

DRIFT = 0.25
"""Threshold of the alert ModelDrift."""
UNKNOWN = 0.2
"""Threshold of the alert UnknownShareHigh."""

_PER_PHOTO = f" / on () group_left sum(increase(prediction_confidence_count{{{OF}}}[1h]))"


def board() -> Dashboard:
    """Return the dashboard."""
    rows: Rows = {
        "Now": [
            number(
                "Model",
                "Version and architecture that the instances serve. Two at once: a canary or a deployment "
                "is under way, or has stopped halfway. Alerts ModelChanged and ModelsDiffer.",
                (f"group by (version, arch) (model_info{{{OF}}})", "{{version}} ({{arch}})"),
            ).text_mode(BigValueTextMode.NAME),
            number(
                "Photos in the last hour",
                "Photos that were classified, by all instances.",
                ('model:photos:1h{job="$job"}', ""),
            ),
            number(
                "Judged correct in the last day",
                "Share of the answers with feedback that users judged correct. Users report wrong answers "
                "more often than right ones, so it is below the accuracy. Alert LiveAccuracyLow.",
                ('feedback:accuracy:1d{job="$job"}', ""),
                "percentunit",
            ),
            number(
                "Accuracy on the test photos",
                "Measured once, before the release. It holds for photos like those of the test split.",
                (f'max(model_test_figure{{{OF}, figure="accuracy"}})', ""),
                "percentunit",
            ),
        ],
        "Answers": [
            lines(
                "Labels, last hour",
                "Share of each label among the answers. Dashed: among the answers to the model's test "
                "photos.",
                (f"sum by (label) (increase(predictions_total{{{OF}}}[1h])){_PER_PHOTO}", "{{label}}"),
                (f"max by (label) (model_reference_label_share{{{OF}}})", "{{label}} expected"),
                unit="percentunit",
            ),
            heat(
                "Answers by confidence",
                "Probability of the answered label. Most answers should be near 100 %.",
                f"prediction_confidence_bucket{{{OF}}}",
                "percentunit",
            ),
            lines(
                "Answers with low confidence, last hour",
                "Share of the answers up to that probability. Dashed: on the model's test photos. Far above "
                "it: the photos are blurred, or show something that is none of the classes.",
                (
                    f'sum by (le) (increase(prediction_confidence_bucket{{{OF}, le=~"0.9|0.99"}}[1h]))'
                    + _PER_PHOTO,
                    "up to {{le}}",
                ),
                (
                    f'max by (le) (model_reference_share{{{OF}, statistic="confidence", le=~"0.9|0.99"}})',
                    "up to {{le}} expected",
                ),
                unit="percentunit",
            ),
            limited(
                lines(
                    "Unknown, last hour",
                    "Share of the photos, of all instances, that the model takes for none of its classes. "
                    "Empty if it cannot say `unknown`. Above the line, UnknownShareHigh fires if the day "
                    "before was better.",
                    ('model:unknown_ratio:1h{job="$job"}', "unknown"),
                    unit="percentunit",
                ),
                UNKNOWN,
            ).span(24),
        ],
        "Drift from the training reference statistics: 0 same, 1 disjoint; needs 200 photos": [
            _drift("Last hour", 'model:drift:1h{job="$job"}'),
            _drift("Last day", 'model:drift:1d{job="$job"}'),
        ],
        "Photos, last hour": [
            quantiles(
                "Brightness, 0 black to 1 white",
                "Mean of a photo's pixels. Lower at night, or if a client darkens the photos.",
                f"photo_brightness_bucket{{{OF}}}[1h]",
            ),
            quantiles(
                "Width divided by height",
                "After EXIF rotation. A jump: a client crops or scales in another way.",
                f"photo_aspect_ratio_bucket{{{OF}}}[1h]",
            ),
            quantiles(
                "Shorter side, pixels",
                "As sent. Below the network's input, 260 pixels for the embedded model, the photo lacks "
                "detail.",
                f"photo_short_side_pixels_bucket{{{OF}}}[1h]",
            ),
        ],
        "What the network sees, last hour": [
            lines(
                "Score of being one of the classes",
                "Share of the photos whose `known` is at most that. Dashed: on the model's test photos. Far "
                "above it: photos of another kind, or of none of the classes.",
                (
                    f'sum by (le) (increase(prediction_known_bucket{{{OF}, le=~"0.5|0.9|0.99"}}[1h]))'
                    f" / on () group_left sum(increase(prediction_known_count{{{OF}}}[1h]))",
                    "up to {{le}}",
                ),
                (
                    f'max by (le) (model_reference_share{{{OF}, statistic="known", le=~"0.5|0.9|0.99"}})',
                    "up to {{le}} expected",
                ),
                unit="percentunit",
            ).span(12),
            lines(
                "Components of the network's features",
                "Share of the photos that are below the average of the training, per component. Dashed: of "
                "the model's test photos. Far from it: the photos show something else, or show it "
                "differently, though brightness and size may be the same. Empty for models without them.",
                (
                    "sum by (statistic, version) "
                    f'(increase(photo_component_bucket{{{OF}, le="0.0"}}[1h]))'
                    f" / sum by (statistic, version) (increase(photo_component_count{{{OF}}}[1h]))",
                    "{{statistic}} of {{version}}",
                ),
                (
                    "max by (statistic, version) "
                    f'(model_reference_share{{{OF}, statistic=~"component_.*", le="0.0"}})',
                    "{{statistic}} of {{version}} expected",
                ),
                unit="percentunit",
            ).span(12),
        ],
        "Feedback of users, last day": [
            _accuracy(),
            lines(
                "Judged answers",
                "Number of answers with feedback. A pair of classes that grows: these two are confused.",
                (
                    f"sum by (predicted, actual) (increase(feedback_total{{{OF}}}[1d]))",
                    "answered {{predicted}}, actually {{actual}}",
                ),
            ).span(12),
        ],
    }
    return new_board("Model", "cats-vs-dogs-model", rows)


def _drift(title: str, query: str) -> Panel:
    text = (
        "Largest distance of photos and answers of all instances from those of the training, per statistic. "
        "Above the line, with at least 200 photos, ModelDrift fires: the test accuracy says little about "
        "such photos."
    )
    return limited(lines(title, text, (query, "{{statistic}}")), DRIFT).max(1).span(12)


def _accuracy() -> Panel:
    bare = DynamicConfigValue("custom.lineWidth", 0)
    band = [DynamicConfigValue("custom.fillBelowTo", "lower bound"), bare]
    return (
        lines(
            "Judged correct, with the 95 % interval, and the test accuracy",
            "If the whole band is below the dashed lines, LiveAccuracyLow fires. With few answers the band "
            "is wide.",
            ('feedback:accuracy_high:1d{job="$job"}', "upper bound"),
            ('feedback:accuracy:1d{job="$job"}', "judged correct"),
            ('feedback:accuracy_low:1d{job="$job"}', "lower bound"),
            (
                f'max by (figure) (model_test_figure{{{OF}, figure=~"accuracy(_low|_high)?"}})',
                "{{figure}} expected",
            ),
            unit="percentunit",
        )
        .override_by_name("upper bound", band)
        .override_by_name("lower bound", [bare])
        .span(12)
    )
