"""The model card: a page of Markdown that says what a `model.pt` is and how good it is."""

from typing import Any

from ml.bundle import MAX_CARD_BYTES
from ml.card.failures import failures, pictures
from ml.card.figures import calibration, quality, slices, stability, unknown
from ml.card.making import data, making, use
from ml.manifest import Manifest
from ml.markdown import figure, listed, plain
from ml.stage_reports import Reports


def card(manifest: Manifest, figures: dict[str, Any], reports: Reports) -> str:
    """Return the card, small enough for `ml.bundle`.

    Args:
        manifest: of the model.
        figures: `precision`, `torch`, `twin`, `known` and `test_digest`, as package measures them.
        reports: what the stages left.
    """
    names = " from ".join(map(plain, manifest.classes))
    many = len(names) > 200
    head = [
        f"# Model {plain(manifest.version)}",
        "",
        f"Tells {listed(manifest.classes) + ' from each other' if many else names}: {manifest.arch} at "
        f"{manifest.image_size} x {manifest.image_size}, {figures['precision']} ONNX twin inside.",
        "",
    ]
    parts = [
        head,
        use(manifest),
        data(manifest, figures, reports),
        making(manifest, reports),
        quality(manifest, figures, reports),
        calibration(manifest, figures, reports),
        unknown(manifest, figures, reports),
        stability(reports),
        slices(reports),
        failures(manifest, figures, reports),
    ]
    text = "\n".join(line for part in parts for line in part)
    shown = "\n".join(pictures(reports))
    whole = f"{text.rstrip()}\n\n{shown}".rstrip() + "\n"
    return whole if len(whole.encode()) <= MAX_CARD_BYTES else _cut(text)


def _cut(text: str) -> str:
    """Leave out pictures, and the end where it must be: the model matters more than its card."""
    room = MAX_CARD_BYTES - 100
    short = text.encode()[:room].decode(errors="ignore")
    if short != text:
        short = short.rpartition("\n")[0] + "\n\nCut here, since a card has 64 KB at most."
    return short.rstrip() + "\n"


def summary(manifest: Manifest, figures: dict[str, Any], url: str) -> str:
    """Return the few lines that stand on the release's page.

    Args:
        manifest: of the model.
        figures: what `ml.publishing.files.collect` merges.
        url: where everybody may load the model from, or empty.
    """
    twin = figures["twin"]
    return (
        f"Model `{manifest.version}`: {manifest.arch}, {listed(manifest.classes)}. "
        f"Accuracy {figure('accuracy', twin)}, log loss {figure('log_loss', twin, share=False)} "
        f"on {twin['photos']:.0f} test photos. More in MODEL_CARD.md.\n\n"
        f"    MODEL_URL={url}\n    MODEL_SHA256={figures['sha256']}"
    )
