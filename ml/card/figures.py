"""The parts of a model card that hold figures, each a list of lines; none where the report isn't there."""

from typing import Any

from ml.manifest import Manifest
from ml.markdown import MOST, figure, percent, plain, table
from ml.stage_reports import Reports


def quality(manifest: Manifest, figures: dict[str, Any], reports: Reports) -> list[str]:
    """Give the figures of the test split."""
    twin, exact = figures["twin"], figures["torch"]
    confidence = reports.params.get("evaluate", {}).get("confidence", 0.95)
    named = [("accuracy", "accuracy", True), ("log loss", "log_loss", False), ("ROC AUC", "roc_auc", False)]
    named.append(("calibration error", "ece", False))
    worst = sorted(manifest.classes, key=lambda name: twin.get(f"recall_{name}", 0.0))[:MOST]
    for name in (name for name in manifest.classes if name in worst):
        for kind in ("precision", "recall"):
            named.append((f"{kind} {plain(f'{name:.60}')}", f"{kind}_{name}", True))
    rows = [[title, figure(key, twin, share), figure(key, exact, share)] for title, key, share in named]
    return [
        "## Figures",
        "",
        f"On {twin['photos']:.0f} test photos, which had no part in the training; in brackets the "
        f"{confidence:.0%} interval.",
        "",
        *table(["", "ONNX twin, as served", "torch"], rows),
    ]


def calibration(manifest: Manifest, figures: dict[str, Any], reports: Reports) -> list[str]:
    """Say what its probabilities are worth."""
    bins = reports.params.get("evaluate", {}).get("calibration_bins")
    return [
        "## Calibration",
        "",
        f"Logits are divided by a temperature of {manifest.temperature:.3f} (Guo et al. 2017), fitted on "
        "validation against smoothed targets. Expected calibration error of the twin"
        f"{f', in {bins} bins' if bins else ''}: {figure('ece', figures['twin'], share=False)}. So far is "
        "the share of right answers from the stated probability, on average; it may be more for photos "
        "unlike these.",
        "",
    ]


def unknown(manifest: Manifest, figures: dict[str, Any], reports: Reports) -> list[str]:
    """Say how it tells photos of something else, and how well."""
    if not manifest.known:
        return []
    served = figures.get("known") or {}
    methods = {"twin, as served": served}
    methods |= {f"torch, {name}": found for name, found in reports.measured.get("known", {}).items()}
    rows = [
        [
            plain(name),
            figure("refused", found),
            figure("refused_others", found),
            figure("auroc", found, share=False),
        ]
        for name, found in methods.items()
        if found
    ]
    lines = [
        "## Photos of something else",
        "",
        f"Method: {plain(manifest.known['method'])}. A photo whose score `known` is under "
        f"{manifest.known['threshold']:g} is answered as unknown. Nothing was learnt from photos of "
        "something else.",
        "",
        *table(["", "photos of the classes refused", "photos of something else refused", "AUROC"], rows),
    ]
    if "refused_others" not in served:
        lines += ["No photos of something else were given to measure it on (`evaluate.other`).", ""]
    return lines


def stability(reports: Reports) -> list[str]:
    """Say which changes of a photo flip its label."""
    rows = [
        [
            plain(name.replace("_", " ")),
            figure("share", {"share": one["share"], "share_low": one["low"], "share_high": one["high"]}),
            "any" if one["limit"] is None else percent(one["limit"]),
            "-" if one["refused"] is None else percent(one["refused"]),
        ]
        for name, one in reports.stability.get("changes", {}).items()
    ]
    if not rows:
        return []
    return [
        "## Stability",
        "",
        f"Share of {reports.stability['photos']} test photos whose label is another after a change of the "
        "photo; and of those that are answered as unknown only then.",
        "",
        *table(["change", "labels that flip", "limit", "unknown only then"], rows),
    ]


def slices(reports: Reports) -> list[str]:
    """Give the accuracy by kind of photo."""
    titles = {"short_side_pixels": "shorter side, pixels", "brightness": "brightness, 0 to 1"}
    lines = []
    for kind, found in reports.slices.items():
        worst = sorted(found, key=lambda name: found[name]["accuracy"])[:MOST]
        rows = [
            [
                plain(f"{name:.60}"),
                f"{one['photos']:.0f}",
                figure("accuracy", one),
                percent(one["confidence"]),
            ]
            for name, one in found.items()
            if name in worst
        ]
        lines += table([titles.get(kind, plain(kind)), "photos", "accuracy", "mean confidence"], rows)
    if not lines:
        return []
    return [
        "## Slices",
        "",
        "Of the test photos, by torch; kinds of fewer than 20 photos are left out. Where the probabilities "
        "are calibrated, the mean confidence is as high as the accuracy.",
        "",
        *lines,
    ]
