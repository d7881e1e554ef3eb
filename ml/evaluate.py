"""Stage evaluate: temperature from validation, figures and pictures from the test split."""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ml import params as parameters
from ml import plots
from ml.batches import plain_batches
from ml.cli import exit_cleanly
from ml.dataset import FOLDER, Dataset, Split
from ml.errors import PipelineError
from ml.metrics import Floats, Labels, figures, fit_temperature, softmax
from ml.networks import Network, Normalization, build
from ml.params import Params
from ml.paths import METRICS, REPORT
from ml.train import CHECKPOINT, HISTORY


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Figures of the network, before it is packaged.

    Attributes:
        temperature: fitted on validation.
        test: figures of the test split, see `ml.metrics.figures`.
        test_digest: which photos those are, see `Dataset.digest`.
    """

    temperature: float
    test: dict[str, float]
    test_digest: str


def load_checkpoint(path: Path, data: Dataset) -> tuple[Network, dict[str, Any]]:
    """Build the network that train wrote, ready to answer, and return the rest of what it wrote.

    Raises:
        PipelineError: there is no checkpoint, or it is of other classes than the photos.
    """
    try:
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise PipelineError(f"{path} is missing: run `dvc repro`") from error
    if tuple(content["classes"]) != data.classes:
        raise PipelineError(f"{path} is of classes {content['classes']}, the photos of {list(data.classes)}")
    network = build(content["arch"], len(data.classes))
    network.load_state_dict(content["state_dict"])
    network.eval().to(memory_format=torch.channels_last)
    return network, content


def logits_of(network: Network, data: Dataset, split: Split) -> tuple[Floats, Labels]:
    """Logits [N, classes] and labels [N] of a split, in the order of its rows."""
    normalize = Normalization(network.mean, network.std)
    with torch.inference_mode():
        parts = [network(normalize(pixels)).numpy() for pixels, _ in plain_batches(data, data.rows(split))]
    return np.concatenate(parts).astype(np.float64), data.labels[data.rows(split)]


def run(
    params: Params,
    data_folder: Path = FOLDER,
    checkpoint: Path = CHECKPOINT,
    history: Path = HISTORY,
    report: Path = REPORT,
) -> Evaluation:
    """Measure the checkpoint and write metrics.json, predictions.csv and the pictures to `report`."""
    data = Dataset.load(data_folder)
    network, content = load_checkpoint(checkpoint, data)
    temperature = fit_temperature(*logits_of(network, data, "val"))
    logits, labels = logits_of(network, data, "test")
    probabilities = softmax(logits, temperature)
    p = params.evaluate
    result = Evaluation(
        temperature,
        figures(probabilities, labels, data.classes, p.calibration_bins, p.resamples, p.confidence),
        data.digest("test"),
    )

    report.mkdir(parents=True, exist_ok=True)
    (report / METRICS).write_text(json.dumps(dataclasses.asdict(result), indent=2) + "\n", "utf-8")
    rows = data.rows("test")
    _write_predictions(data, rows, probabilities, report / "predictions.csv")
    plots.confusion_matrix(probabilities, labels, data.classes, report / "confusion_matrix.png")
    plots.roc(probabilities, labels, data.classes, report / "roc.png")
    plots.reliability(probabilities, labels, p.calibration_bins, report / "reliability.png")
    plots.curves(json.loads(history.read_text("utf-8"))["history"], report / "curves.png")
    plots.worst_mistakes(probabilities, labels, rows, data, p.worst_mistakes, report / "worst_mistakes.png")
    _track(params, content["run_id"], result, report)
    return result


def _write_predictions(data: Dataset, rows: Labels, probabilities: Floats, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", *data.classes])
        for row, some in zip(rows, probabilities, strict=True):
            table.writerow([data.paths[row], data.classes[data.labels[row]], *(f"{p:.6f}" for p in some)])


def _track(params: Params, run_id: str, result: Evaluation, report: Path) -> None:
    import mlflow

    from ml.tracking import log_figures, tracked

    with tracked(params.tracking, run_id):
        mlflow.log_metrics({f"test_{name}": value for name, value in result.test.items()})
        mlflow.log_metric("temperature", result.temperature)
        log_figures(report)


if __name__ == "__main__":
    with exit_cleanly():
        run(parameters.load())
