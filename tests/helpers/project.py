"""A folder as the pipeline leaves it, and commands that run in it."""

import hashlib
import json
import os
import pickle
import random
import subprocess
import sys
import zipfile
from pathlib import Path

from tests.conftest import colour_graph, manifest
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S

FIGURES = {
    "photos": 100.0, "accuracy": 0.97, "accuracy_low": 0.915, "accuracy_high": 0.99,
    "log_loss": 0.1, "log_loss_low": 0.05, "log_loss_high": 0.15, "roc_auc": 0.99, "ece": 0.01,
    "precision_red": 0.96, "recall_red": 0.98, "precision_blue": 0.98, "recall_blue": 0.96,
}  # fmt: skip


def make_project(
    folder: Path,
    version: str = "aaaaaaaaaaaa",
    pictures: int = 1,
    card: str = "# A model card\n",
    **changes: object,
) -> Path:
    """Write models/model.pt and its reports; another version is another file; `changes` describe it."""
    for name in ("models", "reports/evaluate", "reports/package"):
        (folder / name).mkdir(parents=True, exist_ok=True)
    described = manifest(version=version, metrics=FIGURES, dataset_md5="d" * 32, git_commit="c" * 40)
    described |= changes
    model = folder / "models" / "model.pt"
    with zipfile.ZipFile(model, "w") as archive:
        epoch = (1980, 1, 1, 0, 0, 0)
        parts = {
            "data.pkl": pickle.dumps(described, protocol=2),
            "data/0": random.Random(version).randbytes(50_000),
            "extra/model.json": json.dumps(described),
            "extra/model.onnx": colour_graph(),
            "extra/README.md": card,
        }
        for name, content in parts.items():
            archive.writestr(zipfile.ZipInfo(f"archive/{name}", epoch), content)
    packaged = {
        "precision": "int8",
        "version": version,
        "sha256": hashlib.sha256(model.read_bytes()).hexdigest(),
        "torch": FIGURES,
        "twin": FIGURES,
        "known": {},
        "test_digest": "e" * 64,
        "mean_difference": 0.001,
        "conditions": [],
    }
    (folder / "reports/package/package.json").write_text(json.dumps(packaged))
    measured = {"temperature": described["temperature"], "test": FIGURES, "test_digest": "e" * 64}
    measured |= {"checkpoint_sha256": "f" * 64}
    measured |= {
        "known": {},
        "baselines": {},
        "cross_validation": {},
        "calibration": {},
        "warnings": [],
    }
    (folder / "reports/evaluate/metrics.json").write_text(json.dumps(measured))
    for number in range(pictures):
        (folder / f"reports/evaluate/plot{number}.png").write_bytes(b"\x89PNG" + bytes([number]) * 1000)
    (folder / "reports/evaluate/worst_mistakes.png").write_bytes(b"somebody's photos")
    (folder / "params.yaml").write_text("ingest:\n  source: oxford-pets\n")
    return folder


def command(folder: Path, module: str, *arguments: str, **env: str) -> "subprocess.Popen[str]":
    """Start `python -m MODULE` in the folder, with nothing of the tester's own settings."""
    inherited = {name: os.environ[name] for name in ("PATH", "HOME", "TMPDIR") if name in os.environ}
    return subprocess.Popen(
        [sys.executable, "-m", module, *arguments],
        cwd=folder,
        env=inherited | {"PYTHONPATH": str(ROOT), "PYTHONDONTWRITEBYTECODE": "1"} | env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def run(folder: Path, module: str, *arguments: str, **env: str) -> tuple[int, str, str]:
    """Return exit code, standard output, standard error."""
    with command(folder, module, *arguments, **env) as process:
        output, error = process.communicate(timeout=HANG_S)
    return process.returncode, output, error
