"""Write models/model.pt with its ONNX model and its model card.

The model is only a candidate if it is not accurate enough or no better than simpler methods, if its
probabilities are badly calibrated, if it answers too many photos of the classes as unknown, if its ONNX model
answers differently from torch, or if small perturbations of a photo change too many labels. A candidate can
be served like any model, but it is neither promoted nor published unless you say so. docs/training.md lists
the conditions.
"""

import argparse
import dataclasses
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ml import params as parameters
from ml.cli import say
from ml.data.dataset import Dataset
from ml.evaluation.features import extract_features, load_ood_photos
from ml.evaluation.metrics import softmax
from ml.evaluation.ood import load_method, measure_scores
from ml.evaluation.result import Evaluation, measure, write_summary
from ml.model import bundle
from ml.packaging.conditions import check_accuracy, check_probabilities, check_unknown
from ml.packaging.describe import describe_model, stored_weights
from ml.packaging.drawn import classify_drawn_images
from ml.packaging.examples import TEST, choose_test_photos, read_folder, wrong_answers
from ml.packaging.export import export
from ml.packaging.quantize import choose_precision
from ml.packaging.stability import measure_stability
from ml.params import Params
from ml.paths import DRAWN_IMAGES, MODEL, PACKAGE_METRICS, PACKAGE_REPORT, PACKAGED, STABILITY
from ml.reporting import stage_reports
from ml.reporting.model_card import card
from ml.training.trained_network import CHECKPOINT, TrainedNetwork

EXAMPLE = "python -m ml package"


def main(arguments: argparse.Namespace) -> None:
    """Package as params.yaml says, and print how good the model is."""
    report = run(parameters.load())
    onnx_model = report["twin"]
    accuracy, low, high = (100 * onnx_model[f"accuracy{end}"] for end in ("", "_low", "_high"))
    say(
        f"{MODEL}: version {report['version']}, accuracy {accuracy:.2f} % ({low:.2f} % to {high:.2f} %) on "
        f"{onnx_model['photos']:.0f} test photos; `make report` shows all results"
    )
    if crossed := Evaluation.read().cross_validation:
        accuracy, low, high = (100 * crossed[f"accuracy{end}"] for end in ("", "_low", "_high"))
        say(
            f"the test photos are few: a linear probe, cross-validated on {crossed['photos']:.0f} photos, "
            f"has an accuracy of {accuracy:.2f} % ({low:.2f} % to {high:.2f} %)"
        )
    unmet = [condition for condition in report["conditions"] if not condition["met"]]
    if unmet:
        say(_next_steps(unmet))
    labels = ", ".join(report["examples"]) or "none; package.examples in params.yaml says how to add some"
    say(f"example photos: {labels}")
    for wrong in report["wrong_examples"]:
        say(f"the smoke test of a deployment will fail: {wrong}")


def run(params: Params) -> dict[str, Any]:
    """Package the checkpoint: write model.pt and the reports about it.

    Returns:
        The content of package.json: `precision` of the ONNX model (`int8` or `float32`), `version` and
        `sha256` of model.pt, `run_id` of the training, `test_digest` (see `Dataset.digest`), metrics of
        the test photos (`torch`, and `twin` of the ONNX model), metrics of its OOD score (`known`, see
        `ml.evaluation.ood.measure_scores`),
        `mean_difference`, see `ml.packaging.quantize.ChosenModel`, the `conditions`, see
        `ml.packaging.conditions.Condition`, the labels of the example photos (`examples`), and what is wrong
        with the model's answers to them (`wrong_examples`).

    Raises:
        PipelineError: a file of an earlier stage is missing or broken, or `package.examples` is not usable.
    """
    data, evaluation, half = Dataset.load(), Evaluation.read(), params.package.half
    source = params.package.examples
    examples = read_folder(source, data.classes) if source not in ("", TEST) else []
    trained = TrainedNetwork.load(data)
    evaluation.check(data, CHECKPOINT)
    method, ood_score = load_method()
    test = extract_features(trained.network, data.images, data.rows("test"))
    expected = softmax(test.logits, evaluation.temperature)

    exact = export(trained.network, evaluation.temperature, data.image_size, ood_score)
    chosen = choose_precision(params, data, exact, expected)

    PACKAGE_REPORT.mkdir(parents=True, exist_ok=True)
    stability = measure_stability(params, chosen.model, data)
    stability.write(PACKAGE_REPORT / STABILITY)
    _write(classify_drawn_images(chosen.model, data), PACKAGE_REPORT / DRAWN_IMAGES)

    weights = stored_weights(trained.network.state_dict(), half)
    metrics = measure(params.evaluate, data, chosen.probabilities)
    ood_photos = load_ood_photos(params.evaluate.other, data.image_size, data.resize)
    ood_scores = None if ood_photos is None else chosen.model.run(ood_photos)["known"]
    known = measure_scores(params.evaluate.confidence, chosen.answers["known"], ood_scores)
    conditions = [
        *check_accuracy(params, data, chosen.probabilities),
        check_probabilities(params, chosen.probabilities, metrics["ece"]),
        *check_unknown(params, data.classes, known),
        chosen.condition(),
        *stability.conditions(),
    ]
    shortfalls = [f"{condition.name}: {condition.detail}" for condition in conditions if not condition.met]
    manifest = describe_model(
        data, trained, evaluation.temperature, weights, method, chosen.answers, metrics, shortfalls
    )
    if source == TEST:
        examples = choose_test_photos(data, manifest, chosen.model, chosen.probabilities)
    report = {
        "precision": chosen.precision,
        "version": manifest.version,
        "run_id": trained.run_id,
        "test_digest": data.digest("test"),
        "torch": measure(params.evaluate, data, expected),
        "twin": metrics,
        "known": known,
        "mean_difference": chosen.mean_difference,
        "conditions": [dataclasses.asdict(condition) for condition in conditions],
        "examples": [example.label for example in examples],
        "wrong_examples": wrong_answers(examples, manifest, chosen.model),
    }
    stages = stage_reports.load(params.model_dump(mode="json"))
    text = card(manifest, report, stages)

    MODEL.parent.mkdir(parents=True, exist_ok=True)
    ood_weights = stored_weights(ood_score.state_dict(), half)
    report["sha256"] = bundle.write(MODEL, manifest, weights, chosen.onnx, ood_weights, text, examples)
    _write(report, PACKAGE_REPORT / PACKAGED)
    differences = {"mean_difference": chosen.mean_difference, "refused": known["refused"]}
    write_summary(PACKAGE_METRICS, metrics, **differences)
    return report


def _next_steps(unmet: Sequence[Mapping[str, Any]]) -> str:
    """Tell what a candidate lacks and what its owner can do, with the commands."""
    remedies = [condition["remedy"] for condition in unmet]
    accept_less = f"- accept less:       python -m ml params {' '.join(remedies)} && dvc repro"
    return "\n".join(
        [
            f"{MODEL} is only a candidate. It was written and can be served, but it is neither promoted nor "
            "published by itself. It does not meet these conditions:",
            *(f"- {condition['name']}: {condition['detail']}" for condition in unmet),
            "Choose what to do:",
            "- add photos:        make train SOURCE=path/to/more/photos",
            *([accept_less] if all(remedies) else []),
            "- use it anyway:     python -m ml register --candidate",
            "- publish it anyway: python -m release gate --candidate && "
            "python -m release publish --candidate --tag v1.2.3",
        ]
    )


def _write(content: Any, path: Path) -> None:
    path.write_text(json.dumps(content, indent=1) + "\n", "utf-8")
