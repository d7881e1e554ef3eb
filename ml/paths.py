"""Paths of models and reports, in a module of their own because the stages import torch."""

from pathlib import Path

MODEL = Path("models/model.pt")
DEFAULT_MODEL = Path(__file__).parents[1] / "app/default/model.pt"
"""The model that the service uses by default."""
REPORT = Path("reports/evaluate")
METRICS = "metrics.json"
EVALUATE_METRICS = Path("metrics/evaluate.json")
PACKAGE_METRICS = Path("metrics/package.json")
KNOWN = "known.pt"
DROPPED = "dropped.csv"
PROMOTION = Path("reports/promotion.json")
SLICES = "slices.json"
STABILITY = "stability.json"
DRAWN_IMAGES = "drawn_images.json"
PREPARE_REPORT = Path("reports/prepare")
PACKAGE_REPORT = Path("reports/package")
SHOW_PHOTOS = frozenset({"worst_mistakes.png"})
"""Pictures in REPORT that show photos of the data set."""
PACKAGED = "package.json"
HISTORY = Path("models/history.json")
GATE_REPORT = Path("reports/gate.json")
