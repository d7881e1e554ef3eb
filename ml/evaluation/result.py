"""The result of stage evaluate, which packaging reads."""

import dataclasses
import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Self

from ml.data.dataset import Dataset
from ml.evaluation.metrics import Comparison, Floats, Labels, classification_metrics
from ml.model.errors import PipelineError
from ml.model.partial import sha256_of
from ml.params import Evaluate
from ml.paths import METRICS, REPORT

_PATH = REPORT / METRICS


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Metrics of the torch network, before it is packaged.

    Attributes:
        temperature: fitted on the validation split.
        test: metrics of the test split, see `ml.evaluation.metrics.classification_metrics`.
        known: metrics of the OOD detection methods, see `ml.evaluation.ood`.
        test_digest: identifies the test photos, see `Dataset.digest`.
        checkpoint_sha256: of the file with the network.
        baselines: metrics of simpler methods on the same photos: `majority`, which always answers the most
            frequent class, and, if the body was pretrained, `probe`, see `ml.evaluation.probe`.
        cross_validation: metrics of the cross-validated probe on the photos of all splits; empty if the test
            split has enough photos, or the body was not pretrained.
        calibration: see `ml.evaluation.calibration.Calibration`.
        warnings: what the owner of the model should know, in sentences without a full stop.
    """

    temperature: float
    test: dict[str, float]
    known: Comparison
    test_digest: str
    checkpoint_sha256: str
    baselines: dict[str, dict[str, float]]
    cross_validation: dict[str, float]
    calibration: dict[str, float]
    warnings: list[str]

    def write(self) -> None:
        """Write metrics.json."""
        _PATH.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", "utf-8")

    @classmethod
    def read(cls) -> Self:
        """Read metrics.json.

        Raises:
            PipelineError: the file is missing or broken.
        """
        try:
            return cls(**json.loads(_PATH.read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise PipelineError(f"{_PATH} is missing or broken: run `dvc repro`") from error

    def check(self, data: Dataset, checkpoint: Path) -> None:
        """Raise PipelineError unless this network was measured on these test photos."""
        if self.test_digest != data.digest("test"):
            raise PipelineError(f"{_PATH} was measured on other test photos: run `dvc repro`")
        if self.checkpoint_sha256 != sha256_of(checkpoint):
            raise PipelineError(f"{_PATH} was measured on another network than {checkpoint}: run `dvc repro`")


def write_summary(path: Path, test: Mapping[str, float], **more: float) -> None:
    """Write the metrics of all test photos for `dvc metrics`: no intervals, and no metrics per class."""
    left_out = re.compile("(precision|recall)_.*|.*_(low|high)", re.DOTALL)
    summary = {name: value for name, value in test.items() if not left_out.fullmatch(name)}
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(summary | more, indent=2) + "\n", "utf-8")


def measure(
    params: Evaluate, data: Dataset, probabilities: Floats, labels: Labels | None = None
) -> dict[str, float]:
    """Compute the metrics of probabilities [N, classes] of the test photos, or of photos of `labels` [N]."""
    if labels is None:
        labels = data.labels[data.rows("test")]
    return classification_metrics(
        probabilities, labels, data.classes, params.calibration_bins, params.resamples, params.confidence
    )
