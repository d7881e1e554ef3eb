"""Measure the trained network on the test split.

Fits the temperature and the OOD score on the validation split. Writes metrics, predictions and plots to
reports/evaluate, and logs them to the MLflow run of the training.
"""

import argparse
import csv
import json
from pathlib import Path

import numpy as np

from ml import params as parameters
from ml.data.dataset import FOLDER, Dataset
from ml.evaluation import plots
from ml.evaluation.features import Features, extract_features, extract_ood_features, load_ood_photos
from ml.evaluation.metrics import Floats, Labels, classification_metrics, fit_temperature, softmax
from ml.evaluation.ood import choose_method, save_method
from ml.evaluation.result import Evaluation
from ml.evaluation.slices import slice_metrics
from ml.model.networks import Network
from ml.params import Evaluate, Params
from ml.paths import HISTORY, KNOWN, REPORT, SLICES
from ml.training.trained_network import CHECKPOINT, TrainedNetwork

EXAMPLE = "python -m ml evaluate"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add no arguments: params.yaml holds the parameters."""


def main(arguments: argparse.Namespace) -> None:
    """Evaluate as params.yaml says."""
    run(parameters.load())


def run(
    params: Params,
    data_folder: Path = FOLDER,
    checkpoint: Path = CHECKPOINT,
    history: Path = HISTORY,
    report: Path = REPORT,
) -> Evaluation:
    """Measure the checkpoint, and write metrics, predictions and plots to `report`.

    Raises:
        PipelineError: no checkpoint for these photos, or `evaluate.other` or `evaluate.known` is wrong.
    """
    p = params.evaluate
    data = Dataset.load(data_folder)
    trained = TrainedNetwork.load(checkpoint, data)
    report.mkdir(parents=True, exist_ok=True)

    train_sample, val, test = _extract_all(trained.network, data, p.ood_photos, params.train.seed)
    temperature = fit_temperature(val.logits, val.labels)
    probabilities = softmax(test.logits, temperature)
    name, method, comparison = choose_method(
        p, trained.network, train_sample, val, test, _extract_ood(p, trained.network, data)
    )
    save_method(name, method, report / KNOWN)

    metrics = classification_metrics(
        probabilities, test.labels, data.classes, p.calibration_bins, p.resamples, p.confidence
    )
    evaluation = Evaluation(temperature, metrics, comparison, data.digest("test"))
    evaluation.write(report)
    slices = slice_metrics(data, probabilities, p.confidence)
    (report / SLICES).write_text(json.dumps(slices, indent=2) + "\n", "utf-8")
    _write_predictions(data, data.rows("test"), probabilities, report / "predictions.csv")
    _draw_plots(p, data, probabilities, history, report)
    _log(params, trained.run_id, evaluation, report)
    return evaluation


def _extract_all(network: Network, data: Dataset, sample: int, seed: int) -> tuple[Features, ...]:
    """Return the features of a sample of the training photos, and of the splits val and test."""
    sampled = np.sort(np.random.default_rng(seed).permutation(data.rows("train"))[:sample])
    rows = (sampled, data.rows("val"), data.rows("test"))
    train_sample, val, test = (extract_features(network, data, some) for some in rows)
    return train_sample, val, test


def _extract_ood(params: Evaluate, network: Network, data: Dataset) -> Features | None:
    if not params.other:
        return None
    return extract_ood_features(network, load_ood_photos(Path(params.other), data.image_size, data.resize))


def _write_predictions(data: Dataset, rows: Labels, probabilities: Floats, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", *data.classes])
        for row, shares in zip(rows, probabilities, strict=True):
            label = data.classes[data.labels[row]]
            table.writerow([data.paths[row], label, *(f"{share:.6f}" for share in shares)])


def _draw_plots(params: Evaluate, data: Dataset, probabilities: Floats, history: Path, report: Path) -> None:
    rows = data.rows("test")
    labels = data.labels[rows]
    plots.confusion_matrix(probabilities, labels, data.classes, report / "confusion_matrix.png")
    plots.roc(probabilities, labels, data.classes, report / "roc.png")
    plots.reliability(probabilities, labels, params.calibration_bins, report / "reliability.png")
    plots.learning_curves(json.loads(history.read_text("utf-8"))["history"], report / "curves.png")
    plots.worst_mistakes(probabilities, rows, data, params.worst_mistakes, report / "worst_mistakes.png")


def _log(params: Params, run_id: str, evaluation: Evaluation, report: Path) -> None:
    import mlflow

    from ml.tracking.store import tracked

    with tracked(params.tracking, run_id):
        mlflow.log_metrics({f"test_{name}": value for name, value in evaluation.test.items()})
        mlflow.log_metric("temperature", evaluation.temperature)
        for method, metrics in evaluation.known.items():
            mlflow.log_metrics({f"ood_{method}_{name}": value for name, value in metrics.items()})
        mlflow.log_artifacts(str(report), report.name)
