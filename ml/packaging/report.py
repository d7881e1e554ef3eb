"""What packaging measured, and the file that it writes about it."""

import dataclasses
import json
from pathlib import Path
from typing import Any

from ml.data.dataset import Dataset
from ml.evaluation.features import load_ood_photos
from ml.evaluation.metrics import Floats, classification_metrics
from ml.evaluation.ood import measure_scores
from ml.packaging.precision import ChosenModel
from ml.params import Evaluate, Params


@dataclasses.dataclass(frozen=True)
class PackageReport:
    """The measurements of a packaged model.

    Attributes:
        precision: `int8` or `float32`, of the ONNX model.
        version: version of the model.
        sha256: of the file `model.pt`.
        run_id: the MLflow run that trained the network.
        torch: metrics of the torch network on the test split.
        onnx: metrics of the ONNX model on the same photos.
        known: metrics of the ONNX model's OOD score, see `ml.evaluation.ood.measure_scores`.
        mean_difference: mean over photos of the largest difference of a probability between the two.
        not_taken: the precisions that were tried before, with the reasons against them.
    """

    precision: str
    version: str
    sha256: str
    run_id: str
    torch: dict[str, float]
    onnx: dict[str, float]
    known: dict[str, float]
    mean_difference: float
    not_taken: list[str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain values. The ONNX model's metrics are under `twin`, as in published releases."""
        plain = dataclasses.asdict(self)
        return plain | {"twin": plain.pop("onnx")}

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(self.to_dict(), indent=2) + "\n", "utf-8")


def measure(params: Params, data: Dataset, probabilities: Floats) -> dict[str, float]:
    """Compute the metrics of probabilities [N, classes] of the test photos."""
    p, labels = params.evaluate, data.labels[data.rows("test")]
    return classification_metrics(
        probabilities, labels, data.classes, p.calibration_bins, p.resamples, p.confidence
    )


def measure_ood(params: Evaluate, data: Dataset, chosen: ChosenModel) -> dict[str, float]:
    """Compute the metrics of the ONNX model's OOD score, on OOD photos too if there are any."""
    if not params.other:
        return measure_scores(params.confidence, chosen.ood_scores)
    photos = load_ood_photos(Path(params.other), data.image_size, data.resize)
    return measure_scores(params.confidence, chosen.ood_scores, chosen.model.run(photos)["known"])
