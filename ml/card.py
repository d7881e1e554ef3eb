"""The model card: a page of Markdown that says what a `model.pt` is and how good it is."""

import re
from typing import Any

from ml.bundle import Manifest

_LICENCES = {
    "oxford-pets": "Oxford-IIIT Pet (Parkhi et al. 2012), CC BY-SA 4.0, by torchvision",
}
"""Sources of photos whose licence is known, by `ingest.source`."""


def card(manifest: Manifest, figures: dict[str, Any], source: str, url: str) -> str:
    """Return the card.

    Args:
        manifest: of the model.
        figures: what `ml.release_files.figures` merges.
        source: `ingest.source` of params.yaml, or empty. A private path is not repeated.
        url: where everybody may load the model from, or empty.
    """
    twin, exact = figures["twin"], figures["torch"]
    rows = [
        _row("accuracy", twin, exact, percent=True),
        _row("log_loss", twin, exact),
        _row("roc_auc", twin, exact),
        _row("ece", twin, exact),
        *(
            _row(f"{kind}_{name}", twin, exact, percent=True)
            for name in manifest.classes
            for kind in ("precision", "recall")
        ),
    ]
    photos = _LICENCES.get(source, "not among the collections that this pipeline knows; licence not recorded")
    lines = [
        f"# Model {manifest.version}",
        "",
        f"Tells {' from '.join(map(plain, manifest.classes))}: {manifest.arch} at {manifest.image_size} x "
        f"{manifest.image_size}, {figures['precision']} ONNX twin inside.",
        "",
        f"| on {twin['photos']:.0f} test photos (interval) | ONNX twin, as served | torch |",
        "| --- | --- | --- |",
        *rows,
        "",
        "| | |",
        "| --- | --- |",
        f"| made | {manifest.created} |",
        f"| code | {manifest.git_commit or 'unknown commit'} |",
        f"| photos | {photos} |",
        f"| photos, MD5 by DVC | {manifest.dataset_md5 or 'unknown'} |",
        f"| test photos, digest | {figures['test_digest']} |",
        f"| SHA-256 of model.pt | {figures['sha256']} |",
        "",
        "## Use",
        "",
        f"    MODEL_URL={url or 'file:///path/to/model.pt'} \\",
        f"    MODEL_SHA256={figures['sha256']} python -m app",
        "",
        '`torch.load("model.pt", weights_only=True)["state_dict"]` are the weights.',
        "",
        f"It knows {len(manifest.classes)} classes, and a photo of anything else still gets one of them.",
        "Not for decisions about people, nor for medical use.",
    ]
    return "\n".join(lines) + "\n"


def summary(manifest: Manifest, figures: dict[str, Any], url: str) -> str:
    """Return the few lines that stand on the release's page; arguments as of `card`."""
    twin = figures["twin"]
    return (
        f"Model `{manifest.version}`: {manifest.arch}, {', '.join(map(plain, manifest.classes))}. "
        f"Accuracy {_figure('accuracy', twin, True)}, log loss {_figure('log_loss', twin, False)} "
        f"on {twin['photos']:.0f} test photos. More in MODEL_CARD.md.\n\n"
        f"    MODEL_URL={url}\n    MODEL_SHA256={figures['sha256']}"
    )


def plain(text: str) -> str:
    """Return a text that Markdown shows as it is; names of classes are names of folders, so anything."""
    return re.sub(r"([\\`*_\[\]<>|#&])", r"\\\1", " ".join(text.split()))


def _row(name: str, twin: dict[str, float], exact: dict[str, float], percent: bool = False) -> str:
    shown = (plain(name.replace("_", " ")), _figure(name, twin, percent), _figure(name, exact, percent))
    return f"| {' | '.join(shown)} |"


def _figure(name: str, found: dict[str, float], percent: bool) -> str:
    def shown(value: float) -> str:
        return f"{100 * value:.2f} %" if percent else f"{value:.4f}"

    if name not in found:
        return "-"
    low, high = found.get(f"{name}_low"), found.get(f"{name}_high")
    interval = f" ({shown(low)} to {shown(high)})" if low is not None and high is not None else ""
    return shown(found[name]) + interval
