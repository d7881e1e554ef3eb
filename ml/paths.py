"""Where the stages leave what is published. Here and not in the stages, which import torch."""

from pathlib import Path

MODEL = Path("models/model.pt")
DEFAULT_MODEL = Path(__file__).parents[1] / "app/default/model.pt"
"""What is served where nothing else is named."""
REPORT = Path("reports/evaluate")
METRICS = "metrics.json"
KNOWN = "known.pt"
PROMOTION = "promotion.json"
SLICES = "slices.json"
STABILITY = "stability.json"
SITUATIONS = "situations.json"
PREPARE_REPORT = Path("reports/prepare")
PACKAGE_REPORT = Path("reports/package")
SHOW_PHOTOS = frozenset({"worst_mistakes.png"})
"""Pictures of REPORT in which photos are seen."""
PACKAGED = "package.json"
HISTORY = Path("models/history.json")
GATE_REPORT = Path("reports/gate.json")
