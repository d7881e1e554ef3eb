"""How the model did: versions, labels, confidence, drift, and what users say of its answers."""

import math

import numpy as np

from ml.metrics import wilson
from reporting.charts import duration, lines, room_below, spans, stretches
from reporting.prometheus import Source
from reporting.section import NONE, Section, Table, count, decimal, moment, percent

DRIFT_ALLOWED = 0.25
"""As monitoring/rules/alerts.yml has it, where at least so many photos came in the time."""
DRIFT_PHOTOS = 200
_CONFIDENCE = 0.95
_ACCURACIES = {"live": "accuracy", "lower bound": "accuracy_low", "upper bound": "accuracy_high"}


def versions(source: Source) -> Section:
    """Tell which models answered, and when."""
    short = 'label_replace(max_over_time(model_info{$job}[$span]), "sha256", "$1", "sha256", "(.{12}).*")'
    joined = f'label_join({short}, "name", " ", "version", "arch", "engine", "sha256")'
    series = source.series(f"max by (name) ({joined})", "name")
    rows = [
        (name, moment(some[0][0]), moment(some[-1][1]), duration(sum(end - start for start, end in some)))
        for name, values in series.items()
        if (some := stretches(source.period, values))
    ]
    return Section(
        "Model versions",
        count(len(series), "version", "versions") if series else NONE,
        "Version, architecture, engine, and the beginning of the file's SHA-256.",
        spans(source.period, series),
        Table(("model", "first seen", "last seen", "for"), sorted(rows, key=lambda row: row[1])),
    )


def labels(source: Source) -> Section:
    """Tell the share of each label among the answers."""
    found = source.values("sum by (label) (increase(predictions_total{$job}[$range]))", "label")
    reference = source.values(
        "max by (label) (last_over_time(model_reference_label_share{$job}[$range]))", "label"
    )
    rate = "rate(predictions_total{$job}[$rate])"
    shares = source.series(f"sum by (label) ({rate}) / on () group_left () (sum({rate}) > 0)", "label")
    total = sum(found.values())
    of_all = {label: number / total for label, number in found.items()} if total > 0 else {}
    largest = sorted(of_all, key=lambda label: -of_all[label])
    rows = [
        (label, count(found[label]), percent(of_all[label]), percent(reference.get(label, math.nan)))
        for label in largest[:20]
    ]
    return Section(
        "Label share",
        ", ".join(f"{label} {100 * of_all[label]:.0f} %" for label in largest[:3]) or NONE,
        f"Of {count(total, 'photo', 'photos')} answered, beside the model's answers to its test photos.",
        lines(
            source.period, {name: 100 * v for name, v in shares.items()}, "% of the answers", ends=(0, 100)
        ),
        Table(("label", "photos", "share", "test photos"), rows),
    )


def confidence(source: Source) -> Section:
    """Tell the probability of the labels that were answered."""
    mean = source.value(
        "sum(increase(prediction_confidence_sum{$job}[$range]))"
        " / sum(increase(prediction_confidence_count{$job}[$range]))"
    )
    rate = "(sum(rate(prediction_confidence_%s{$job}[$rate])))"
    drawn = {"mean": source.series(f"{rate % 'sum'} / ({rate % 'count'} > 0)")}
    bucket = "sum by (le) (rate(prediction_confidence_bucket{$job}[$rate]))"
    drawn |= {f"{100 * q:g} % below": source.series(f"histogram_quantile({q}, {bucket})") for q in (0.1, 0.5)}
    found = {name: values for name, some in drawn.items() for values in some.values()}
    return Section(
        "Confidence",
        f"mean {mean:.3f}" if math.isfinite(mean) else NONE,
        "Probability of the label that was answered; quantiles are estimated from the histogram.",
        lines(source.period, found, "probability", ends=(room_below(found.values(), 0.05), 1.0)),
    )


def drift(source: Source) -> Section:
    """Tell how far photos and answers are from what the model was made with."""
    series = source.series("max by (statistic) (model:drift:1h{$job})", "statistic")
    series = {name.replace("_", " "): values for name, values in series.items()}
    photos = np.nan_to_num(source.series("max(model:photos:1h{$job})").get("", np.zeros(1)))
    rows, worst, bad = [], math.nan, False
    for name, values in series.items():
        most = int(np.nanargmax(values))
        when = moment(source.period.times()[most])
        last = values[np.isfinite(values)][-1]
        rows.append((name, decimal(values[most]), when, decimal(last)))
        worst = np.nanmax([worst, values[most]])
        bad = bad or bool(((values > DRIFT_ALLOWED) & (photos >= DRIFT_PHOTOS)).any())
    return Section(
        "Drift",
        f"at most {worst:.2f}" if math.isfinite(worst) else NONE,
        "Largest distance between the distributions of the last hour and of what the model was made with, "
        f"0 alike to 1 apart. An alert asks for more than {DRIFT_ALLOWED} and {DRIFT_PHOTOS} photos; the "
        f"busiest hour had {count(float(photos.max()))}.",
        lines(source.period, series, "distance", {"alert": DRIFT_ALLOWED}, ends=(0, 1)),
        Table(("statistic", "largest", "at", "last"), rows),
        bad=bad,
    )


def feedback(source: Source) -> Section:
    """Tell the share of right answers among those that users judged, with its interval."""
    judged = source.values("sum by (correct) (increase(feedback_judged_total{$job}[$range]))", "correct")
    right = round(judged.get("true", 0.0))
    answers = right + round(judged.get("false", 0.0))
    test = source.values(
        'max by (figure) (last_over_time(model_test_figure{$job, figure=~"accuracy.*"}[$range]))', "figure"
    )
    figure, low, bad = NONE, test.get("accuracy_low", math.nan), False
    if answers > 0:
        live = wilson(right, answers, _CONFIDENCE)
        figure = f"{100 * live.value:.1f} % ({100 * live.low:.1f} to {100 * live.high:.1f} %)"
        bad = live.high < low
    drawn = {
        name: 100 * values
        for name, rule in _ACCURACIES.items()
        for values in source.series(f"max(feedback:{rule}:1d{{$job}})").values()
    }
    band = (drawn["lower bound"], drawn["upper bound"]) if len(drawn) == 3 else None
    limits = {"test photos, lower bound": 100 * low} if math.isfinite(low) else {}
    floor = room_below([*drawn.values(), *(np.full(1, limit) for limit in limits.values())], 5)
    return Section(
        "Feedback accuracy",
        figure,
        f"Of {count(answers, 'answer', 'answers')} that users judged, with the {100 * _CONFIDENCE:.0f} % "
        f"interval. On its test photos the model's was {percent(test.get('accuracy', math.nan))}, at least "
        f"{percent(low)}. The chart shows the last day at each moment.",
        lines(source.period, drawn, "% right", limits, band=band, ends=(floor, 100)),
        Table(("judged", "answers"), [("right", count(right)), ("wrong", count(answers - right))]),
        bad=bad,
    )
