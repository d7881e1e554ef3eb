"""Reports of all stages, with figures that a test can look for."""

import base64
import json
from pathlib import Path

from ml.packaging.perturbations import PERTURBATIONS
from tests.conftest import RED, coloured, encode
from tests.helpers.project import FIGURES

CHANGED = {
    "flips": 3,
    "share": 0.01,
    "low": 0.0034,
    "high": 0.029,
    "limit": 0.02,
    "over": False,
    "refused": 0.02,
}
INTERVALS = {"refused": 0.0131, "refused_low": 0.0071, "refused_high": 0.0239}
OTHERS = {"refused_others": 0.9811, "refused_others_low": 0.9661, "refused_others_high": 0.99,
          "auroc": 0.9975, "auroc_low": 0.9951, "auroc_high": 0.9999}  # fmt: skip
CONDITIONS = [
    {"name": "better than always answering red", "met": True, "detail": "accuracy 0.9700", "remedy": ""},
    {
        "name": "not worse than a linear probe",
        "met": False,
        "detail": "worse; only the probe on 9",
        "remedy": "",
    },
]
BASELINES = {
    name: FIGURES | {"accuracy": accuracy, "balanced_accuracy": accuracy}
    for name, accuracy in (("probe", 0.9911), ("majority", 0.5022))
}
SLICE = {
    "photos": 33,
    "accuracy": 0.9697,
    "accuracy_low": 0.8468,
    "accuracy_high": 0.9946,
    "confidence": 0.9512,
}


def leave(folder: Path) -> Path:
    """Write the reports of all stages into a folder that `tests.helpers.project.make_project` made."""
    for name in ("data/processed", "reports/prepare", "models"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    picture = base64.b64encode(encode(coloured(RED, 8, 8), "PNG")).decode()
    drawn = {"name": "a wall", "picture": picture, "label": "red", "probability": 0.81, "known": 0.73,
             "refused": False}  # fmt: skip
    measured = json.loads((folder / "reports/evaluate/metrics.json").read_text())
    packaged = json.loads((folder / "reports/package/package.json").read_text())
    change = dict(CHANGED)
    written = {
        "data/processed/splits.json": {
            "photos": [{"path": f"red/kaggle_red_{n}.jpg"} for n in range(4321)]
            + [{"path": f"blue/oxford_Azure_{n}.jpg"} for n in range(1234)]
        },
        "reports/prepare/report.json": {
            "kept": {name: {"train": 800, "val": 98, "test": 50} for name in ("red", "blue")},
            "dropped": {"near_duplicate": 7, "broken": 2},
        },
        "models/history.json": {
            "history": [
                {"epoch": n, "train_loss": 1 / n, "val_loss": 1 / n, "train_accuracy": 0.9, "val_accuracy": 1}
                for n in (1, 2)
            ],
            "choices": [{"finetuned_share": 0.4, "val_loss": 0.1}],
        },
        "reports/evaluate/metrics.json": measured
        | {"baselines": BASELINES, "warnings": ["the stated probabilities are far off"]}
        | {"known": {"concepts": INTERVALS | OTHERS, "energy": INTERVALS | {"auroc": 0.9123}}},
        "reports/evaluate/slices.json": {
            "file_name": {"Azure": SLICE, "Cobalt": SLICE | {"accuracy": 0.8765}},
            "short_side_pixels": {"over 112 to 224": SLICE},
            "brightness": {},
        },
        "reports/promotion.json": {
            "promoted": True, "verdict": "better", "champion": "3", "sha256": packaged["sha256"],
            "reasons": ["the new model is clearly better than version 3"],
        },
        "reports/package/package.json": packaged
        | {"known": INTERVALS | OTHERS, "conditions": CONDITIONS},
        "reports/package/stability.json": {
            "photos": 300,
            "changes": dict.fromkeys(PERTURBATIONS, change)
            | {"grey": change | {"limit": None, "refused": None}}
            | {"watermarked": change | {"flips": 12, "share": 0.0412, "over": True}},
        },
        "reports/package/drawn_images.json": [
            drawn, drawn | {"name": "noise", "refused": True, "known": 0.02},
        ],
    }  # fmt: skip
    for path, content in written.items():
        (folder / path).write_text(json.dumps(content))
    (folder / "reports/prepare/dropped.csv").write_text(
        "path,reason,detail\nred/1.jpg,near_duplicate,nearly red/2.jpg\nblue/3.jpg,broken,a truncated image\n"
    )
    return folder


assert FIGURES["photos"] == 100
