"""Where the stages leave what is published. Here and not in the stages, which import torch."""

from pathlib import Path

MODEL = Path("models/model.pt")
REPORT = Path("reports/evaluate")
METRICS = "metrics.json"
PACKAGE_REPORT = Path("reports/package")
