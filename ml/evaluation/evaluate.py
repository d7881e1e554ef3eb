"""Measure the trained network on the test split.

Fits the temperature and the OOD score on the validation split. Writes metrics, predictions and plots to
reports/evaluate, and logs them to the MLflow run of the training.
"""

import argparse
import csv
import dataclasses
import json

from ml import params as parameters
from ml.cli import note
from ml.data.dataset import Dataset
from ml.evaluation import plots
from ml.evaluation.baselines import Probe, answer_majority
from ml.evaluation.calibration import check_calibration
from ml.evaluation.features import extract_features, load_ood_photos
from ml.evaluation.metrics import Floats, fit_temperature, softmax
from ml.evaluation.ood import choose_method, save_method
from ml.evaluation.probe import fit_probe
from ml.evaluation.result import Evaluation, measure, write_summary
from ml.evaluation.slices import slice_metrics
from ml.model.allocator import keep_freed_memory
from ml.model.partial import sha256_of
from ml.params import Evaluate, Params
from ml.paths import EVALUATE_METRICS, HISTORY, REPORT, SLICES
from ml.training.trained_network import CHECKPOINT, TrainedNetwork

EXAMPLE = "python -m ml evaluate"
_OOD_PHOTOS_PER_CLASS = 10
"""Of each class that has as many: the score needs the mean of every class, however rare it is."""


def main(arguments: argparse.Namespace) -> None:
    """Evaluate as params.yaml says."""
    keep_freed_memory()
    run(parameters.load())


def run(params: Params) -> Evaluation:
    """Measure the checkpoint, and write metrics, predictions and plots.

    Raises:
        PipelineError: no checkpoint for these photos, or `evaluate.other` or `evaluate.ood_method` is wrong.
    """
    p, data = params.evaluate, Dataset.load()
    trained = TrainedNetwork.load(data)
    network = trained.network
    REPORT.mkdir(parents=True, exist_ok=True)

    sample = data.sample("train", p.ood_photos, params.train.seed, _OOD_PHOTOS_PER_CLASS)
    val_rows = data.rows("val")
    train, val, test = (
        extract_features(network, data.images, rows) for rows in (sample, val_rows, data.rows("test"))
    )
    temperature = fit_temperature(val.logits, data.labels[val_rows])
    probabilities = softmax(test.logits, temperature)
    photos = load_ood_photos(p.other, data.image_size, data.resize)
    ood = None if photos is None else extract_features(network, photos)
    name, method, comparison = choose_method(p, network, train, data.labels[sample], val, test, ood)
    save_method(name, method)

    labels = data.labels[data.rows("test")]
    calibration = check_calibration(p, probabilities, softmax(test.logits), labels)
    evaluation = Evaluation(
        temperature,
        measure(p, data, probabilities),
        comparison,
        data.digest("test"),
        sha256_of(CHECKPOINT),
        *_measure_baselines(params, trained.arch, data),
        dataclasses.asdict(calibration),
        calibration.warnings(),
    )
    evaluation.write()
    val_loss = json.loads(HISTORY.read_text("utf-8"))["choices"][0]["val_loss"]
    write_summary(EVALUATE_METRICS, evaluation.test, temperature=temperature, val_loss=val_loss)
    for warning in evaluation.warnings:
        note(f"warning: {warning}")
    slices = slice_metrics(data, probabilities, p.confidence)
    (REPORT / SLICES).write_text(json.dumps(slices, indent=2) + "\n", "utf-8")
    _write_predictions(data, probabilities)
    _draw_plots(p, data, probabilities)
    _log(params, trained.run_id, evaluation)
    return evaluation


def _measure_baselines(
    params: Params, arch: str, data: Dataset
) -> tuple[dict[str, dict[str, float]], dict[str, float]]:
    """Return the metrics of the baselines, and of the cross-validated probe; write the probe's answers."""
    p = params.evaluate
    Probe.remove()
    baselines = {"majority": measure(p, data, answer_majority(data))}
    probe = fit_probe(params, arch, data)
    if probe is None:
        return baselines, {}
    probe.write()
    baselines["probe"] = measure(p, data, probe.test)
    crossed = measure(p, data, probe.crossed, probe.crossed_labels) if len(probe.crossed) else {}
    return baselines, crossed


def _write_predictions(data: Dataset, probabilities: Floats) -> None:
    with (REPORT / "predictions.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", *data.classes])
        for row, shares in zip(data.rows("test"), probabilities, strict=True):
            label = data.classes[data.labels[row]]
            table.writerow([data.paths[row], label, *(f"{share:.6f}" for share in shares)])


def _draw_plots(params: Evaluate, data: Dataset, probabilities: Floats) -> None:
    rows = data.rows("test")
    labels = data.labels[rows]
    plots.confusion_matrix(probabilities, labels, data.classes, REPORT / "confusion_matrix.png")
    plots.roc(probabilities, labels, data.classes, REPORT / "roc.png")
    plots.reliability(probabilities, labels, params.calibration_bins, REPORT / "reliability.png")
    plots.learning_curves(json.loads(HISTORY.read_text("utf-8"))["history"], REPORT / "curves.png")
    plots.worst_mistakes(probabilities, rows, data, params.worst_mistakes, REPORT / "worst_mistakes.png")


def _log(params: Params, run_id: str, evaluation: Evaluation) -> None:
    if not run_id:  # MLflow could not be used during the training
        return
    from ml.evaluation.log import log_evaluation  # MLflow takes seconds to import
    from ml.tracking.store import LATER, or_later

    with or_later(f"the results are in {REPORT}, and {LATER}"):
        log_evaluation(params.tracking, run_id, evaluation)
