"""The parts of the page on how good the model is."""

from collections.abc import Mapping
from typing import Any

from ml.markdown import percent
from ml.paths import REPORT
from ml.report.parts import Bar, Cell, Section, Table, interval, number, picture, scale
from ml.stage_reports import Reports

_TITLES = {"roc_auc": "ROC AUC", "ece": "calibration error"}


def figures(reports: Reports) -> Section:
    """Give the figures of the test split, with their intervals."""
    exact = reports.measured.get("test", {})
    twin = reports.packaged.get("twin", {})
    if not exact:
        return Section("Figures")
    names = [name for name in exact if name != "photos" and not name.endswith(("_low", "_high"))]
    rows = []
    for name in names:
        share = name == "accuracy" or name.startswith(("precision_", "recall_"))
        cells = [
            text
            for found in (twin, exact)
            for text in (number(name, found, share), interval(name, found, share))
        ]
        rows.append([_TITLES.get(name, name.replace("_", " ")), *cells])
    head = ["", "ONNX twin, as served", "interval", "torch", "interval"]
    confidence = reports.params["evaluate"]["confidence"]
    return Section(
        "Figures",
        f"{percent((twin or exact)['accuracy'])} right",
        [
            f"On {exact['photos']:.0f} test photos, which had no part in the training; the intervals are of "
            f"{confidence:.0%}."
        ],
        [Table("Figures of the test split", head, rows)],
        [
            *picture(REPORT / "confusion_matrix.png", "Confusion matrix of the test split"),
            *picture(REPORT / "roc.png", "ROC curves of the test split"),
        ],
    )


def calibration(reports: Reports) -> Section:
    """Say what its probabilities are worth."""
    found = reports.packaged.get("twin") or reports.measured.get("test")
    if not found:
        return Section("Calibration")
    return Section(
        "Calibration",
        f"error {number('ece', found, share=False)}",
        [
            f"Interval {interval('ece', found, share=False)}: so far is the share of right answers from the "
            f"stated probability, on average over {reports.params['evaluate']['calibration_bins']} bins. "
            f"Temperature {reports.measured['temperature']:.3f}, fitted on validation."
        ],
        pictures=picture(REPORT / "reliability.png", "Share of right answers by stated probability"),
    )


def strangers(reports: Reports) -> Section:
    """Show the ways to tell photos of something else side by side."""
    title = "Photos of something else"
    methods = dict(reports.measured.get("known", {}))
    if served := reports.packaged.get("known"):
        methods = {"twin, as served": served} | {f"torch, {name}": found for name, found in methods.items()}
    if not methods:
        return Section(title)
    rows: list[list[Cell]] = []
    for name, found in methods.items():
        row: list[Cell] = [name]
        for key in ("refused", "refused_others", "auroc"):
            row += [number(key, found, key != "auroc"), interval(key, found, key != "auroc")]
        rows.append(row)
    best = next(iter(methods.values()))
    told = "refused_others" in best
    head = ["", "classes refused", "interval", "others refused", "interval", "AUROC", "interval"]
    return Section(
        title,
        f"{number('refused_others', best)} refused"
        if told
        else f"{number('refused', best)} of the classes refused",
        [
            "Each way is fitted on photos of the classes alone; its threshold is set to refuse "
            f"{reports.params['evaluate']['known_refused']:.2%} of validation.",
            *([] if told else ["No photos of something else were given to measure it on (evaluate.other)."]),
        ],
        [Table("Ways to tell photos of something else", head, rows)],
    )


def stability(reports: Reports) -> Section:
    """Show which changes of a photo flip its label, beside their limits."""
    changes = reports.stability.get("changes", {})
    if not changes:
        return Section("Stability")
    end = 1.05 * max(max(one["high"], one["limit"] or 0) for one in changes.values())
    rows: list[list[Cell]] = [
        [
            name.replace("_", " "),
            percent(one["share"]),
            scale(one["share"], one["low"], one["high"], 0, end, one["limit"], one["over"]),
            f"{100 * one['low']:.2f} to {100 * one['high']:.2f} %",
            "any" if one["limit"] is None else percent(one["limit"]),
            "-" if one["refused"] is None else percent(one["refused"]),
        ]
        for name, one in changes.items()
    ]
    over = [name.replace("_", " ") for name, one in changes.items() if one["over"]]
    name = max(changes, key=lambda name: changes[name]["share"])
    return Section(
        "Stability",
        f"over the limit: {', '.join(over)}" if over else f"at most {percent(changes[name]['share'])} flip",
        [
            f"Share of {reports.stability['photos']} test photos whose label is another after a change of "
            "the photo, and of those that are answered as unknown only then. The upright line is the limit; "
            "one photo may always flip."
        ],
        [Table("Labels that flip", ["change", "flip", "", "interval", "limit", "unknown only then"], rows)],
        bad=bool(over),
    )


def slices(reports: Reports) -> Section:
    """Show the accuracy by kind of photo."""
    found = {kind: some for kind, some in reports.slices.items() if some}
    if not found:
        text = ["No kind has 20 photos or more."] if reports.slices else []
        return Section("Slices", "none" if text else "", text)
    every = [one for some in found.values() for one in some.values()]
    start = max(0.0, min(one["accuracy_low"] for one in every) - 0.02)
    weakest = min(
        (one["accuracy"], f"{kind} {name}") for kind, some in found.items() for name, one in some.items()
    )
    tables = [
        Table(
            f"Accuracy by {kind.replace('_', ' ')}",
            [kind.replace("_", " "), "photos", "accuracy", "", "interval", "mean confidence"],
            [_slice(name, one, start) for name, one in some.items()],
        )
        for kind, some in found.items()
    ]
    return Section(
        "Slices",
        f"weakest: {percent(weakest[0])}",
        [f"That is {weakest[1].replace('_', ' ')}. Kinds of fewer than 20 test photos are left out."],
        tables,
    )


def _slice(name: str, one: Mapping[str, Any], start: float) -> list[Cell]:
    bar: Bar = scale(one["accuracy"], one["accuracy_low"], one["accuracy_high"], start, 1)
    return [
        name,
        f"{one['photos']:.0f}",
        percent(one["accuracy"]),
        bar,
        interval("accuracy", one),
        percent(one["confidence"]),
    ]
