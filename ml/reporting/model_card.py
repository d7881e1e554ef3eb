"""The model card: a page of Markdown that says what a `model.pt` is and how good it is."""

import ast
import re
from pathlib import Path
from typing import Any

from ml.data.licences import of_source
from ml.model import VERSION, bundle
from ml.model.bundle import MAX_CARD_BYTES
from ml.model.manifest import Manifest
from ml.reporting.rendering import render
from ml.reporting.stage_reports import BASELINES, Reports, metric_titles, ood_methods, unexpected_content

MAX_ROWS = 40
"""Rows of a table; if there are more, the card shows those with the worst figures."""
_CUT = "\n\nThe rest is cut off, because a card has at most 64 KB.\n"


def card(manifest: Manifest, figures: dict[str, Any], reports: Reports) -> str:
    """Return the card, of at most `ml.model.bundle.MAX_CARD_BYTES`.

    If it is too long, the pictures are left out, then its end.

    Args:
        manifest: of the model.
        figures: `precision`, `test_digest`, the metrics `torch` and `twin` (of the ONNX model), `known` (of
            its OOD score), and `conditions`, as the stage `package` measures them.
        reports: of the stages.
    """
    for pictures in (True, False):
        text = _render(manifest, figures, reports, pictures)
        if len(text.encode()) <= MAX_CARD_BYTES:
            return text
    text = text.encode()[: MAX_CARD_BYTES - len(_CUT)].decode(errors="ignore")
    return text.rpartition("\n")[0].rstrip() + _CUT


def summary(manifest: Manifest, figures: dict[str, Any], url: str) -> str:
    """Return a few lines of Markdown for the page of a release.

    `figures` are those that `release.files.collect` merges; `url` is the model's address, or empty.
    """
    return render("release.md.jinja", manifest=manifest, figures=figures, url=url)


def _pretrained(arch: str) -> str:
    """Return `Network.pretrained` of an architecture, read from its source: importing it would need torch."""
    library = arch.partition("/")[0] if "/" in arch else ""
    module = Path("libraries", library) if library else Path(arch)
    source = Path(bundle.__file__).with_name("networks") / module.with_suffix(".py")
    for node in ast.walk(ast.parse(source.read_text("utf-8"))):
        match node:
            case ast.Assign(targets=[ast.Name(id="pretrained")], value=ast.Constant(value=str(text))):
                return text
    return ""


def _render(manifest: Manifest, figures: dict[str, Any], reports: Reports, pictures: bool) -> str:
    onnx_model, ood = figures["twin"], figures["known"]
    looks = manifest.arch.split("+")[1 if reports.param("train", "first_model") else 0 :]
    by_recall = sorted(manifest.classes, key=lambda name: onnx_model.get(f"recall_{name}", 0.0))
    worst = set(by_recall[:MAX_ROWS])
    with unexpected_content():
        text = render(
            "model_card.md.jinja",
            version=VERSION,
            manifest=manifest,
            figures=figures,
            reports=reports,
            source=of_source(reports.source),
            pretrained=" and ".join(filter(None, map(_pretrained, looks))),
            max_rows=MAX_ROWS,
            conditions=figures["conditions"],
            baselines={name: title for name, title in BASELINES.items() if name in reports.baselines},
            metrics=metric_titles(one for one in manifest.classes if one in worst),
            ood_methods=ood_methods(ood, reports.torch_ood),
            ood_detected=ood.get("refused_others"),
            slices={kind: _worst(slices) for kind, slices in reports.slices.items()},
            mistakes=_mistakes(manifest, onnx_model, reports),
            pictures=pictures,
        )
    return re.sub(r"\n{3,}", "\n\n", text).strip() + "\n"


def _worst(slices: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return the slices of the lowest accuracy, in their order."""
    worst = sorted(slices, key=lambda one: one["accuracy"])[:MAX_ROWS]
    return [one for one in slices if one in worst]


def _mistakes(
    manifest: Manifest, onnx_model: dict[str, float], reports: Reports
) -> list[tuple[str, int, int]]:
    """Return name, wrong answers and test photos of the first classes."""
    photos = {name: splits["test"] for name, splits in reports.kept.items()}
    return [
        (name, round((1 - onnx_model[f"recall_{name}"]) * photos[name]), photos[name])
        for name in manifest.classes[:MAX_ROWS]
        if name in photos and f"recall_{name}" in onnx_model
    ]
