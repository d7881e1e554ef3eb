"""The parts of the page on how the model came about, what was decided, and what it gets wrong."""

import json
from pathlib import Path
from typing import Any

from ml.markdown import percent
from ml.paths import GATE_REPORT, PREPARE_REPORT, REPORT
from ml.report.parts import Cell, Picture, Section, Table, picture
from ml.stage_reports import Reports

_SHOWN = 200
"""Rows of a long table."""


def photos(reports: Reports) -> Section:
    """Say which photos there are, and what was dropped."""
    kept, dropped = reports.prepared.get("kept", {}), reports.prepared.get("dropped", {})
    if not kept:
        return Section("Photos")
    splits = ("train", "val", "test")
    total = sum(some[split] for some in kept.values() for split in splits)
    counts = [[name, *(f"{some[split]:,}" for split in splits)] for name, some in kept.items()]
    tables = [Table("Photos by class and split", ["class", *splits], counts)]
    if reports.collections:
        rows = [[f"{count:,}", name] for name, count in reports.collections.items()]
        tables.append(Table("Where they are from", ["photos", "of"], rows))
    if dropped:
        rows = [[reason.replace("_", " "), f"{count:,}"] for reason, count in dropped.items()]
        tables.append(Table("What was dropped", ["reason", "photos"], rows))
        rows = [
            [one["path"], one["reason"].replace("_", " "), one["detail"]] for one in reports.dropped[:_SHOWN]
        ]
        more = len(reports.dropped) - len(rows)
        caption = f"Each of them{f', but for {more:,} more' if more > 0 else ''}"
        tables.append(Table(caption, ["photo", "reason", "detail"], rows))
    return Section(
        "Photos",
        f"{total:,}, of {len(kept)} classes",
        [f"{sum(dropped.values()):,} were dropped. Source: {reports.source}."],
        tables,
        picture(PREPARE_REPORT / "contact_sheet.jpg", "Some photos of each class and split"),
    )


def training(reports: Reports) -> Section:
    """Show the epochs and what was chosen after them."""
    history = reports.history.get("history", [])
    if not history:
        return Section("Training")
    arch = reports.params["train"]["arch"]
    runs = reports.params.get("recipes", {}).get(arch, {}).get("runs", 1)
    times = f" in {runs} runs" if runs > 1 else ""
    rows: list[list[Cell]] = [
        [f"{one['epoch']:.0f}", *(f"{one[name]:.4f}" for name in ("train_loss", "val_loss")),
         *(percent(one[name]) for name in ("train_accuracy", "val_accuracy"))]
        for one in history
    ]  # fmt: skip
    chosen: list[list[Cell]] = [
        [
            f"{one['finetuned_share']:.0%}",
            "as trained" if one["refit_l2"] is None else f"fitted anew, L2 {one['refit_l2']:g}",
            f"{one['val_loss']:.4f}",
        ]
        for one in reports.history.get("choices", [])
    ]
    head = ["epoch", "loss, train", "loss, val", "accuracy, train", "accuracy, val"]
    return Section(
        "Training",
        f"{len(history)} epochs{times} of {arch}",
        [
            "The weights at the best epoch of each run are averaged. Means with the pretrained weights "
            "are then tried on validation; the best is taken."
        ],
        [
            Table("Epochs", head, rows),
            Table("Averages", ["share of the fine-tuned weights", "head", "loss, val"], chosen),
        ],
        picture(REPORT / "curves.png", "Log loss and accuracy over the epochs"),
    )


def promotion(reports: Reports) -> Section:
    """Say whether it is champion, and whether it may be released, and why."""
    found, gate = reports.promotion, _gate()
    if not found:
        return Section("Promotion")
    text = [f"{reason[0].upper()}{reason[1:]}." for reason in found["reasons"] if reason]
    judged = gate.get("candidate", {}).get("sha256") == reports.packaged.get("sha256", "")
    if gate and judged:
        said = "; ".join(gate["reasons"]) or "nothing against it"
        text.append(f"Release gate: {'passed' if gate['passed'] else 'refused'}; {said}.")
    verdict = f"Against version {found['holder']}: {found['verdict']}."
    return Section(
        "Promotion",
        "champion" if found["promoted"] else "not champion",
        [verdict, *text] if found["holder"] else text,
        bad=found["verdict"] == "worse" or bool(gate and judged and not gate["passed"]),
    )


def _gate() -> dict[str, Any]:
    try:
        found = json.loads(GATE_REPORT.read_text("utf-8"))
    except (OSError, ValueError):
        return {}
    return found if isinstance(found, dict) else {}


def mistakes(reports: Reports) -> Section:
    """Show the photos on which it is most wrong, and drawn pictures of none of the classes."""
    worst: list[Picture] = picture(
        Path(REPORT / "worst_mistakes.png"), "Test photos on whose class the least probability was put"
    )
    if not worst and not reports.situations:
        return Section("Worst mistakes")
    rows: list[list[Cell]] = [
        [
            Picture(f"data:image/png;base64,{one['picture']}", one["name"]),
            one["name"],
            f"{one['label']} {percent(one['probability'])}",
            f"{one['known']:.3f}",
            "unknown" if one["refused"] else one["label"],
        ]
        for one in reports.situations
    ]
    taken = [one for one in reports.situations if not one["refused"]]
    head = ["", "drawn", "most probable class", "known", "answer"]
    return Section(
        "Worst mistakes",
        f"{len(taken)} of {len(rows)} drawings get a class" if rows else "see below",
        [
            "The photos are for whoever has the data set: their copyright is others', so publish neither "
            "them nor this page.",
            "The drawings are of none of the classes; each should be unknown.",
        ],
        [Table("Drawings, and what the twin says of them", head, rows)] if rows else [],
        worst,
    )
