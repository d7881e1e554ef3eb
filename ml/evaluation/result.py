"""The result of stage evaluate, which packaging reads."""

import dataclasses
import json
from pathlib import Path
from typing import Self

from ml.evaluation.ood import Comparison
from ml.model.errors import PipelineError
from ml.paths import METRICS, REPORT


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Metrics of the torch network, before it is packaged.

    Attributes:
        temperature: fitted on the validation split.
        test: metrics of the test split, see `ml.evaluation.metrics.classification_metrics`.
        known: metrics of the OOD detection methods, see `ml.evaluation.ood`.
        test_digest: identifies the test photos, see `Dataset.digest`.
    """

    temperature: float
    test: dict[str, float]
    known: Comparison
    test_digest: str

    def write(self, folder: Path = REPORT) -> None:
        """Write metrics.json."""
        (folder / METRICS).write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", "utf-8")

    @classmethod
    def read(cls, folder: Path = REPORT) -> Self:
        """Read metrics.json.

        Raises:
            PipelineError: the file is missing or broken.
        """
        path = folder / METRICS
        try:
            return cls(**json.loads(path.read_text("utf-8")))
        except (OSError, ValueError, TypeError) as error:
            raise PipelineError(f"{path} is missing or broken: run `dvc repro`") from error
