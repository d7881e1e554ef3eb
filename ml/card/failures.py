"""The part of a model card that says where the model is known to be wrong."""

from typing import Any

from ml.manifest import Manifest
from ml.markdown import MOST, percent, plain, table
from ml.stage_reports import Reports

_SEEN = {
    "center_crop": "It sees the largest square in the middle of a photo; what lies outside doesn't count.",
    "squash": "It sees the whole photo, squeezed to a square.",
}


def failures(manifest: Manifest, figures: dict[str, Any], reports: Reports) -> list[str]:
    """Name what went wrong on the test photos, and show what does on drawn pictures."""
    told = [
        _SEEN[manifest.resize],
        _wrong(manifest, figures["twin"], reports),
        _flips(reports),
        _weakest(reports),
        _missed(figures),
        "A photo with several of its classes gets one label.",
    ]
    lines = ["## Known failures", "", *(f"- {one}" for one in told if one), ""]
    rows = [
        [
            f"![{plain(one['name'])}][drawn-{number}]",
            plain(one["name"]),
            f"{plain(one['label'])} {percent(one['probability'])}",
            f"{one['known']:.2f}",
            "" if one["refused"] else "yes",
        ]
        for number, one in enumerate(reports.situations, 1)
    ]
    if rows:
        lines += ["Pictures that the pipeline draws, of none of the classes; each should be unknown:", ""]
        lines += table(["", "drawn", "most probable class", "known", "failure"], rows)
    return lines


def pictures(reports: Reports) -> list[str]:
    """Return the pictures, for the end, where they don't disturb who reads the Markdown itself."""
    return [
        f"[drawn-{number}]: data:image/png;base64,{one['picture']}"
        for number, one in enumerate(reports.situations, 1)
    ]


def _wrong(manifest: Manifest, twin: dict[str, float], reports: Reports) -> str:
    kept = reports.prepared.get("kept", {})
    counts = []
    for name in manifest.classes[:MOST]:
        if name in kept and f"recall_{name}" in twin:
            photos = kept[name]["test"]
            counts.append(
                f"{round((1 - twin[f'recall_{name}']) * photos)} of {photos} {plain(f'{name:.60}')}"
            )
    return f"Wrong on {', '.join(counts)} among the test photos." if counts else ""


def _flips(reports: Reports) -> str:
    changes = reports.stability.get("changes", {})
    name = max(changes, key=lambda name: changes[name]["share"], default="")
    if not name or not changes[name]["share"]:
        return ""
    share = percent(changes[name]["share"])
    return f"Of the changes above, {plain(name.replace('_', ' '))} flips most labels: {share}."


def _weakest(reports: Reports) -> str:
    found = [
        (one["accuracy"], f"{kind.replace('_', ' ')} {name:.60}")
        for kind, some in reports.slices.items()
        for name, one in some.items()
    ]
    if not found:
        return ""
    accuracy, name = min(found)
    return f"The weakest of the slices: {plain(name)}, {percent(accuracy)} right."


def _missed(figures: dict[str, Any]) -> str:
    told = (figures.get("known") or {}).get("refused_others", 1.0)
    if told == 1:
        return ""
    return f"Of photos of something else, {percent(1 - told)} get one of the classes all the same."
