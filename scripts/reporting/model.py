"""Sections on the model: versions, labels, confidence, drift, and feedback of users."""

import math
from functools import partial

import numpy as np

from ml.evaluation.metrics import wilson
from scripts.reporting.charts import axis_start, duration, lines, spans, stretches
from scripts.reporting.prometheus import Source
from scripts.reporting.section import NONE, Section, Table, count, decimal, moment, percent

DRIFT_ALLOWED = 0.25
DRIFT_PHOTOS = 200
"""An alert fires above this distance if that many photos came in an hour, see monitoring/rules/alerts.yml."""
_CONFIDENCE = 0.95
_ACCURACIES = {"live": "accuracy", "lower bound": "accuracy_low", "upper bound": "accuracy_high"}


def versions(source: Source) -> Section:
    """Report which models answered, and when."""
    short = 'label_replace(max_over_time(model_info{$job}[$span]), "sha256", "$1", "sha256", "(.{12}).*")'
    joined = f'label_join({short}, "name", " ", "version", "arch", "engine", "sha256")'
    series = source.series(f"max by (name) ({joined})", "name")
    rows = []
    for name, values in series.items():
        if parts := stretches(source.period, values):
            total = duration(sum(end - start for start, end in parts))
            rows.append((name, moment(parts[0][0]), moment(parts[-1][1]), total))
    return Section(
        "Model versions",
        count(len(series), "version") if series else NONE,
        "Version, architecture, engine, and the first characters of the file's SHA-256.",
        partial(spans, source.period, series),
        Table(("model", "first seen", "last seen", "for"), sorted(rows, key=lambda row: row[1])),
    )


def labels(source: Source) -> Section:
    """Report the share of each label among the answers."""
    photos = source.values("sum by (label) (increase(predictions_total{$job}[$range]))", "label")
    reference = source.values(
        "max by (label) (last_over_time(model_reference_label_share{$job}[$range]))", "label"
    )
    rate = "rate(predictions_total{$job}[$rate])"
    series = source.series(f"sum by (label) ({rate}) / on () group_left () (sum({rate}) > 0)", "label")
    total = sum(photos.values()) if photos else math.nan
    shares = {label: number / total for label, number in photos.items()} if total > 0 else {}
    largest = sorted(shares, key=lambda label: -shares[label])
    rows = [
        (label, count(photos[label]), percent(shares[label]), percent(reference.get(label, math.nan)))
        for label in largest[:20]
    ]
    return Section(
        "Label share",
        ", ".join(f"{label} {100 * shares[label]:.0f} %" for label in largest[:3]) or NONE,
        f"Share of each label among the answers, beside the model's answers to its test photos. Photos: "
        f"{count(total)}.",
        partial(
            lines,
            source.period,
            {label: 100 * values for label, values in series.items()},
            "% of the answers",
            ends=(0, 100),
        ),
        Table(
            ("label", "photos", "share", "test photos"),
            rows,
            compare=2,
            absent=("0", percent(0), NONE),
        ),
    )


def confidence(source: Source) -> Section:
    """Report the probabilities of the labels that were answered."""
    mean = source.value(
        "sum(increase(prediction_confidence_sum{$job}[$range]))"
        " / sum(increase(prediction_confidence_count{$job}[$range]))"
    )
    rate = "(sum(rate(prediction_confidence_%s{$job}[$rate])))"
    bucket = "sum by (le) (rate(prediction_confidence_bucket{$job}[$rate]))"
    queries = {"mean": f"{rate % 'sum'} / ({rate % 'count'} > 0)"}
    queries |= {f"{100 * share:g} % below": f"histogram_quantile({share}, {bucket})" for share in (0.1, 0.5)}
    drawn = {name: values for name, query in queries.items() for values in source.series(query).values()}
    return Section(
        "Confidence",
        f"mean {mean:.3f}" if math.isfinite(mean) else NONE,
        "Probability of the answered label. Quantiles are estimated from the histogram.",
        partial(lines, source.period, drawn, "probability", ends=(axis_start(drawn.values(), 0.05), 1.0)),
    )


def drift(source: Source) -> Section:
    """Report how far photos and answers are from the training reference statistics."""
    series = source.series("max by (statistic) (model:drift:1h{$job})", "statistic")
    series = {name.replace("_", " "): values for name, values in series.items()}
    per_hour = source.series("max(model:photos:1h{$job})").get("", np.full(1, np.nan))
    photos, busiest = np.nan_to_num(per_hour), math.nan if np.isnan(per_hour).all() else np.nanmax(per_hour)
    rows, largest, bad = [], math.nan, False
    for name, values in series.items():
        peak = int(np.nanargmax(values))
        last = values[np.isfinite(values)][-1]
        rows.append((name, decimal(values[peak]), moment(source.period.times()[peak]), decimal(last)))
        largest = np.nanmax([largest, values[peak]])
        bad = bad or bool(((values > DRIFT_ALLOWED) & (photos >= DRIFT_PHOTOS)).any())
    return Section(
        "Drift",
        f"at most {largest:.2f}" if math.isfinite(largest) else NONE,
        "Largest distance between the distributions of the last hour and the training reference statistics, "
        f"from 0 (equal) to 1. An alert needs more than {DRIFT_ALLOWED} and {DRIFT_PHOTOS} photos. Photos in "
        f"the busiest hour: {count(busiest)}.",
        partial(lines, source.period, series, "distance", {"alert": DRIFT_ALLOWED}, ends=(0, 1)),
        Table(("statistic", "largest", "at", "last"), rows, compare=1),
        bad=bad,
    )


def feedback(source: Source) -> Section:
    """Report the share of correct answers among those that users judged, with its interval."""
    judged = source.values("sum by (correct) (increase(feedback_judged_total{$job}[$range]))", "correct")
    correct, wrong = (judged.get(name, 0.0 if judged else math.nan) for name in ("true", "false"))
    answers = correct + wrong
    test = source.values(
        'max by (figure) (last_over_time(model_test_figure{$job, figure=~"accuracy.*"}[$range]))', "figure"
    )
    headline, test_low, bad = NONE, test.get("accuracy_low", math.nan), False
    if judged and round(answers) > 0:
        live = wilson(round(correct), round(correct) + round(wrong), _CONFIDENCE)
        headline = f"{100 * live.value:.1f} % ({100 * live.low:.1f} to {100 * live.high:.1f} %)"
        bad = live.high < test_low
    drawn = {
        name: 100 * values
        for name, rule in _ACCURACIES.items()
        for values in source.series(f"max(feedback:{rule}:1d{{$job}})").values()
    }
    band = (drawn["lower bound"], drawn["upper bound"]) if len(drawn) == 3 else None
    limits = {"test photos, lower bound": 100 * test_low} if math.isfinite(test_low) else {}
    start = axis_start([*drawn.values(), *(np.full(1, limit) for limit in limits.values())], 5)
    return Section(
        "Feedback accuracy",
        headline,
        "Share of correct answers among those that users judged, with its "
        f"{100 * _CONFIDENCE:.0f} % interval. Judged answers: {count(answers)}. The model's accuracy on its "
        f"test photos is {percent(test.get('accuracy', math.nan))}, at least {percent(test_low)}. Each point "
        "of the chart covers the day before it.",
        partial(lines, source.period, drawn, "% correct", limits, band=band, ends=(start, 100)),
        Table(("judged", "answers"), [("correct", count(correct)), ("wrong", count(wrong))], compare=1),
        bad=bad,
    )
