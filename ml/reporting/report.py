"""Write reports/report.html: the results of all stages on one page that needs no other file.

The page shows photos of the data set, so share it only with people who may see them. If a stage has not run
yet, its section says so.
"""

import argparse
import base64
import json
from pathlib import Path
from typing import Any

from ml import params as parameters
from ml.cli import say
from ml.model.errors import PipelineError
from ml.params import Params
from ml.paths import GATE_REPORT, PREPARE_REPORT, REPORT
from ml.reporting import stage_reports
from ml.reporting.rendering import render, write
from ml.reporting.stage_reports import BASELINES, Reports, classes_of, metric_titles, ood_methods

EXAMPLE = "python -m ml report"
OUT = Path("reports/report.html")
MAX_ROWS = 200
"""Rows of the table of dropped photos."""
_PLOTS = ("confusion_matrix", "roc", "reliability", "curves", "worst_mistakes")


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("--out", type=Path, default=OUT, help=f"the file to write (default: {OUT})")


def main(arguments: argparse.Namespace) -> None:
    """Write the page and print its path."""
    out = run(parameters.load(), arguments.out)
    say(f"{out}: {out.stat().st_size:,} bytes; do not publish it, because it shows photos of the data set")


def run(params: Params, out: Path = OUT) -> Path:
    """Write the page and return its path.

    Raises:
        PipelineError: no stage has run, a report is broken, or the page cannot be written.
    """
    reports = stage_reports.load(params.model_dump(mode="json"))
    if not any((reports.kept, reports.epochs, reports.torch, reports.packaged)):
        raise PipelineError("there are no results to report yet: run `dvc repro`")
    with stage_reports.unexpected_content():
        text = _page(params, reports)
    try:
        write(text, out)
    except OSError as error:
        raise PipelineError(f"{out} cannot be written: {error.strerror}") from error
    return out


def _page(params: Params, reports: Reports) -> str:
    onnx_model = reports.packaged.get("twin", {})
    flips = [max(one["share_high"], one["limit"] or 0) for one in reports.perturbations]
    accuracies = [one["accuracy_low"] for slices in reports.slices.values() for one in slices]
    return render(
        "report.html.jinja",
        params=params,
        reports=reports,
        gate=_gate(reports.packaged.get("sha256", "")),
        photos=sum(sum(splits.values()) for splits in reports.kept.values()),
        baselines={name: title for name, title in BASELINES.items() if name in reports.baselines},
        metrics=metric_titles(classes_of(reports.torch)),
        onnx_model=onnx_model,
        measured=onnx_model or reports.torch,
        ood_methods=ood_methods(reports.packaged.get("known", {}), reports.torch_ood),
        flips_end=1.05 * max(flips, default=0),
        accuracy_start=max(0.0, min(accuracies, default=0) - 0.02),
        max_rows=MAX_ROWS,
        pictures=_pictures(),
    )


def _gate(sha256: str) -> dict[str, Any]:
    """Return what the release gate decided about this model; empty: nothing."""
    try:
        gate = json.loads(GATE_REPORT.read_text("utf-8"))
        return dict(gate) if gate["candidate"]["sha256"] == sha256 else {}
    except (OSError, ValueError, KeyError, TypeError):
        return {}


def _pictures() -> dict[str, str]:
    """Return the pictures that exist, as data: URLs by name."""
    plots = {name: ("image/png", REPORT / f"{name}.png") for name in _PLOTS}
    paths = plots | {"contact_sheet": ("image/jpeg", PREPARE_REPORT / "contact_sheet.jpg")}
    return {
        name: f"data:{kind};base64,{base64.b64encode(path.read_bytes()).decode('ascii')}"
        for name, (kind, path) in paths.items()
        if path.is_file()
    }
