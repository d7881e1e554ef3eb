"""Register models/model.pt in MLflow, and make it the champion if it is shown to be better.

The champion and the new model answer the same test photos. Registering the same file again adds no version.
If MLflow could not be used during the training, its run is logged now. Writes the decision to
reports/promotion.json.
"""

import argparse
import json
from contextlib import nullcontext
from typing import Any

import mlflow
from mlflow.entities.model_registry import ModelVersion

from ml import params as parameters
from ml.cli import say
from ml.data import collected
from ml.data.dataset import Dataset
from ml.evaluation.log import EVALUATED, log_evaluation
from ml.evaluation.packaged_model import IncomparableError, MissingHereError, answer_test_photos
from ml.evaluation.promotion import (
    ModelAnswers,
    Promotion,
    decide,
    keep_taken_back,
    promote_uncompared,
    refuse_candidate,
)
from ml.evaluation.result import Evaluation
from ml.model import bundle
from ml.model.bundle import Bundle
from ml.model.decision import can_be_unknown
from ml.model.errors import PipelineError, one_line
from ml.model.onnx_model import OnnxModel
from ml.packaging.conditions import score_of
from ml.params import Params, Recipe
from ml.paths import HISTORY, METRICS, MODEL, PACKAGE_REPORT, PACKAGED, PROMOTION, REPORT, STABILITY
from ml.registry import registry
from ml.registry.names import name_for
from ml.tracking.store import (
    StoreError,
    check,
    has_run,
    log_folder,
    log_metrics,
    log_training,
    or_later,
    reported,
    tracked,
    use_store,
)

EXAMPLE = "python -m ml register"
_MAX_COMPARISONS = 3


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "--candidate",
        action="store_true",
        help="promote the model even if packaging marked it as a candidate, or if it was the champion before,"
        " unless the champion is better",
    )
    parser.add_argument(
        "--or-later",
        action="store_true",
        help="if MLflow cannot be used, say so and succeed, so that the pipeline goes on",
    )


def main(arguments: argparse.Namespace) -> None:
    """Register as params.yaml says, and print the decision.

    Raises:
        PipelineError: the model, its reports or the photos are missing, or MLflow cannot be used.
    """
    params = parameters.load()
    later = or_later(f"{MODEL} is complete, and `{EXAMPLE}` registers it later")
    with later if arguments.or_later else nullcontext():
        check(params.tracking)
        with reported():
            name, number, promotion = run(params, arguments.candidate)
        role = "the champion" if promotion.promoted else "not the champion"
        say(f"{name} version {number} is {role}: {promotion.reasons[0]}")


def run(params: Params, accept_candidate: bool = False) -> tuple[str, str, Promotion]:
    """Register the packaged model, and promote it if it is shown to be better than the champion.

    A candidate, see `ml.packaging.conditions`, is promoted only if `accept_candidate` is true.

    Returns:
        The name of the registered model, the number of the version, and the decision.

    Raises:
        PipelineError: see `main`.
        MlflowException: the MLflow server cannot be used.
    """
    data = Dataset.load()
    candidate, report = _read()
    if report.get("test_digest") != data.digest("test"):
        raise PipelineError(
            f"{MODEL} was packaged with test photos other than the prepared ones: run `dvc repro`"
        )
    use_store(params.tracking)
    name = name_for(params.tracking.model, candidate.manifest.classes)
    version = registry.find_file(name, candidate.sha256) or _register(params, data, name, candidate, report)
    number = str(version.version)
    facts = {"model": name, "version": number, "sha256": candidate.sha256, "test_digest": data.digest("test")}
    for _ in range(_MAX_COMPARISONS):
        champion = registry.champion(name)
        if not accept_candidate and (former := _former_decision(facts, champion)) is not None:
            return name, number, former
        if champion is not None and champion.number == number:
            promotion, champion = promote_uncompared(f"version {number} is the champion already"), None
            break
        if registry.was_promoted(version) and not accept_candidate:
            promotion = keep_taken_back()
            break
        if (shortfalls := candidate.manifest.shortfalls) and not accept_candidate:
            promotion = refuse_candidate(shortfalls)
        else:
            promotion = _compare(params, data, candidate, champion)
        with tracked(params.tracking, version.run_id):
            log_metrics(promotion.metrics(), "promotion_")
        if not promotion.promoted:
            break
        if registry.champion(name) == champion:  # nobody else has promoted a model during the comparison
            registry.promote(name, number)
            break
    else:
        raise StoreError(f"{name} got another champion during each comparison: run `{EXAMPLE}` again")
    promotion.write(**facts, champion="" if champion is None else champion.number)
    return name, number, promotion


def _read() -> tuple[Bundle, dict[str, Any]]:
    """Read the model, and the report that packaging wrote about it."""
    path = PACKAGE_REPORT / PACKAGED
    try:
        candidate = bundle.read(MODEL)
        report: dict[str, Any] = json.loads(path.read_text("utf-8"))
        same = report["sha256"] == candidate.sha256
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise PipelineError(
            f"{MODEL} or its report is missing or broken ({one_line(str(error), 200)}): run `dvc repro`"
        ) from error
    if not same:
        raise PipelineError(f"{MODEL} and {path} are of different runs: run `dvc repro`")
    return candidate, report


def _register(
    params: Params, data: Dataset, name: str, candidate: Bundle, report: dict[str, Any]
) -> ModelVersion:
    """Log the model and its measurements to the run of its training, and make it a version."""
    stability = json.loads((PACKAGE_REPORT / STABILITY).read_text("utf-8"))["changes"]
    manifest = candidate.manifest
    with tracked(params.tracking, _logged_run(params, data, report.get("run_id"))) as run_id:
        log_metrics(report["twin"], "onnx_")
        mlflow.log_metric("onnx_mean_difference", report["mean_difference"])
        log_metrics(report["known"], "onnx_")
        log_metrics({name: flips["share"] for name, flips in stability.items()}, "flips_")
        log_folder(PACKAGE_REPORT, PACKAGE_REPORT.name)
        tags = {
            "model_version": manifest.version,
            "sha256": candidate.sha256,
            "test_digest": data.digest("test"),
        }
        return registry.register(name, MODEL, manifest.classes, run_id, tags)


def _logged_run(params: Params, data: Dataset, run_id: str | None) -> str | None:
    """Return the id of the training's run; if training or evaluation could not log to it, do that now."""
    if not (run_id and has_run(run_id)):
        if not HISTORY.exists():
            return None
        run_id = _log_training(params, data)
    if EVALUATED not in mlflow.get_run(run_id).data.tags and (REPORT / METRICS).exists():
        log_evaluation(params.tracking, run_id, Evaluation.read())
    return run_id


def _log_training(params: Params, data: Dataset) -> str:
    """Log the training from the file that it left, with the recipe that it used; return the id of the run."""
    results = json.loads(HISTORY.read_text("utf-8"))
    params = params.with_recipe(Recipe.model_validate(results["recipe"]))
    return log_training(params, data, results["history"], results["choices"])


def _compare(
    params: Params, data: Dataset, candidate: Bundle, champion: registry.RegisteredVersion | None
) -> Promotion:
    """Have both models answer the same photos, and decide."""
    if champion is None:
        return promote_uncompared("there is no champion yet")
    try:
        answers = _answers(params, data, candidate)
    except IncomparableError as error:
        raise PipelineError(f"the new model cannot answer these photos: {error}; run `dvc repro`") from error
    name = f"the champion, version {champion.number}"
    try:
        champion_answers = _answers(params, data, champion.read())
    except MissingHereError as error:  # it must not lose its place because of this machine
        raise PipelineError(f"{name}, cannot be compared: {error}") from error
    except IncomparableError as error:
        return promote_uncompared(f"{name}, cannot answer these photos: {error}")
    labels = data.labels[data.rows("test")]
    balanced = score_of(data) == "balanced_accuracy"
    return decide(params.evaluate, answers, champion_answers, labels, name, balanced)


def _answers(params: Params, data: Dataset, model: Bundle) -> ModelAnswers:
    answers, manifest = answer_test_photos(model, data), model.manifest
    if not can_be_unknown(manifest, answers):
        return ModelAnswers(answers["probabilities"])
    photos = None
    if params.evaluate.other or collected.others():
        from ml.evaluation.features import load_ood_photos  # imports torch, which takes seconds

        photos = load_ood_photos(params.evaluate.other, manifest.image_size, manifest.resize)
    ood_scores = None if photos is None else OnnxModel(model.onnx).run(photos)["known"]
    return ModelAnswers(answers["probabilities"], answers["known"], ood_scores)


def _former_decision(facts: dict[str, str], champion: registry.RegisteredVersion | None) -> Promotion | None:
    """Return the recorded decision if it is on the same facts and has led to the present champion."""
    try:
        decision = json.loads(PROMOTION.read_text("utf-8"))
        holder = decision["version"] if decision["promoted"] else decision["champion"]
        same = all(decision[name] == fact for name, fact in facts.items())
        if same and champion is not None and champion.number == holder:
            return Promotion(decision["promoted"], decision["verdict"], decision["reasons"])
    except (OSError, ValueError, KeyError, TypeError):
        pass
    return None
