"""Write models/model.pt with its ONNX model and its model card.

Packaging fails if the accuracy is too low, if the ONNX model answers differently from torch, or if small
perturbations of a photo change too many labels. params.yaml holds the limits.
"""

import argparse
import dataclasses
from pathlib import Path

from ml import params as parameters
from ml.cli import say
from ml.data.dataset import FOLDER, SPLITS, Dataset
from ml.data.ingest import RAW
from ml.evaluation.features import extract_features
from ml.evaluation.metrics import softmax
from ml.evaluation.ood import load_method
from ml.evaluation.result import Evaluation
from ml.model import bundle
from ml.model.errors import PipelineError
from ml.packaging.describe import describe_model, stored_weights
from ml.packaging.drawn import write_drawn_images
from ml.packaging.export import export
from ml.packaging.precision import choose_precision
from ml.packaging.report import PackageReport, measure, measure_ood
from ml.packaging.stability import measure_stability
from ml.params import Params
from ml.paths import DRAWN_IMAGES, KNOWN, MODEL, PACKAGE_REPORT, PACKAGED, REPORT, STABILITY
from ml.reporting import stage_reports
from ml.reporting.model_card import card
from ml.training.trained_network import CHECKPOINT, TrainedNetwork

EXAMPLE = "python -m ml package"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add no arguments: params.yaml holds the parameters."""


def main(arguments: argparse.Namespace) -> None:
    """Package as params.yaml says, and print how good the model is."""
    report = run(parameters.load())
    accuracy, low, high = (100 * report.onnx[f"accuracy{end}"] for end in ("", "_low", "_high"))
    say(
        f"{MODEL}: version {report.version}, accuracy {accuracy:.2f} % ({low:.2f} % to {high:.2f} %) on "
        f"{report.onnx['photos']:.0f} test photos; `make report` shows all results"
    )


def run(
    params: Params,
    data_folder: Path = FOLDER,
    checkpoint: Path = CHECKPOINT,
    evaluated: Path = REPORT,
    model: Path = MODEL,
    report_folder: Path = PACKAGE_REPORT,
    raw: Path = RAW,
) -> PackageReport:
    """Package the checkpoint: write `model` and the files in `report_folder`.

    Raises:
        PipelineError: the accuracy is below `package.min_accuracy`, no ONNX model answers as torch does, or
            perturbations change too many labels.
    """
    data = Dataset.load(data_folder)
    evaluation = Evaluation.read(evaluated)
    _verify_accuracy(evaluation, params.package.min_accuracy)
    trained = TrainedNetwork.load(checkpoint, data)
    method, ood_score = load_method(evaluated / KNOWN)
    test = extract_features(trained.network, data, data.rows("test"))
    expected = softmax(test.logits, evaluation.temperature)

    exact = export(trained.network, evaluation.temperature, data.image_size, ood_score)
    chosen = choose_precision(params, data, exact, expected)

    report_folder.mkdir(parents=True, exist_ok=True)
    stability = measure_stability(params, chosen.model, data, raw)
    stability.write(report_folder / STABILITY)
    stability.check()
    write_drawn_images(chosen.model, data, report_folder / DRAWN_IMAGES)

    half = params.package.half
    weights = stored_weights(trained.network.state_dict(), half)
    metrics = measure(params, data, chosen.probabilities)
    manifest = describe_model(
        data, trained, evaluation.temperature, weights, method, chosen.probabilities, metrics
    )
    report = PackageReport(
        precision=chosen.precision,
        version=manifest.version,
        sha256="",
        run_id=trained.run_id,
        torch=measure(params, data, expected),
        onnx=metrics,
        known=measure_ood(params.evaluate, data, chosen),
        mean_difference=chosen.mean_difference,
        not_taken=chosen.not_taken,
    )
    stages = stage_reports.load(
        params.model_dump(mode="json"), evaluated, report_folder, data_folder / SPLITS
    )
    text = card(manifest, report.to_dict() | {"test_digest": data.digest("test")}, stages)

    model.parent.mkdir(parents=True, exist_ok=True)
    sha256 = bundle.write(
        model, manifest, weights, chosen.onnx, stored_weights(ood_score.state_dict(), half), text
    )
    report = dataclasses.replace(report, sha256=sha256)
    report.write(report_folder / PACKAGED)
    return report


def _verify_accuracy(evaluation: Evaluation, minimum: float) -> None:
    accuracy = evaluation.test["accuracy"]
    if accuracy < minimum:
        raise PipelineError(
            f"no model.pt: the test accuracy is {accuracy:.4f}, but package.min_accuracy is {minimum}"
        )
