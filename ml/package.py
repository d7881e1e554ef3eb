"""Stage package: `model.pt` with its ONNX twin, or a refusal; registered, and champion where it is better."""

import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ml import bundle, stage_reports
from ml import params as parameters
from ml.card import card
from ml.cli import exit_cleanly, say
from ml.dataset import FOLDER, SPLITS, Dataset
from ml.errors import PipelineError
from ml.evaluate import load_checkpoint
from ml.evaluation.features import look, other_photos
from ml.evaluation.promotion import Answers, Promotion, confirm, decide
from ml.evaluation.strangers import measure as measure_known
from ml.ingest import RAW
from ml.known import Known, line_for, rebuild
from ml.markdown import figure
from ml.metrics import Floats, Labels, figures, fit_temperature, softmax
from ml.packaging.describe import manifest, reference, stored
from ml.packaging.drawn import ask as draw
from ml.params import Params
from ml.paths import (
    KNOWN,
    METRICS,
    MODEL,
    PACKAGE_REPORT,
    PACKAGED,
    PROMOTION,
    REPORT,
    SITUATIONS,
    STABILITY,
)
from ml.stability import Stability, measure
from ml.train import CHECKPOINT
from ml.twin import Twin, export, quantize, recalibrate


@dataclasses.dataclass(frozen=True)
class PackageReport:
    """What went into `model.pt`.

    Attributes:
        precision: `int8` or `float32`, of the twin.
        version: of the model.
        sha256: of the file.
        torch: figures of the network in torch on the test split.
        twin: figures of the twin on the same photos.
        known: how it tells photos of something else, see `ml.evaluation.strangers.measure`.
        mean_difference: mean over photos of the largest difference of a probability between the two.
    """

    precision: str
    version: str
    sha256: str
    torch: dict[str, float]
    twin: dict[str, float]
    known: dict[str, float]
    mean_difference: float


def run(
    params: Params,
    data_folder: Path = FOLDER,
    checkpoint: Path = CHECKPOINT,
    evaluation: Path = REPORT / METRICS,
    model: Path = MODEL,
    report_folder: Path = PACKAGE_REPORT,
    raw: Path = RAW,
) -> PackageReport:
    """Package the checkpoint; the int8 twin where it holds the tolerances, else the float32 one.

    Its model card goes into `model.pt`.

    Raises:
        PipelineError: the accuracy is under `package.min_accuracy`, no twin answers as torch does, or small
            changes of a photo flip too many of its labels.
    """
    p = params.package
    data = Dataset.load(data_folder)
    network, content = load_checkpoint(checkpoint, data)
    measured = json.loads(evaluation.read_text("utf-8"))
    if measured["test"]["accuracy"] < p.min_accuracy:
        found = measured["test"]["accuracy"]
        raise PipelineError(f"refused: test accuracy {found:.4f}, package.min_accuracy is {p.min_accuracy}")
    temperature = measured["temperature"]
    seen = look(network, data, data.rows("test"))
    expected, labels = softmax(seen.logits, temperature), seen.labels
    method, known = _known(evaluation.with_name(KNOWN))

    chosen = _choose(params, data, export(network, temperature, data.image_size, known), expected, labels)
    report_folder.mkdir(parents=True, exist_ok=True)
    stability = measure(params, chosen.twin, data, raw)
    stability.write(report_folder / STABILITY)
    stability.check()
    drawn = [dataclasses.asdict(one) for one in draw(chosen.twin, data.classes, data.image_size, data.resize)]
    (report_folder / SITUATIONS).write_text(json.dumps(drawn, indent=1) + "\n", "utf-8")
    answered = Answers(chosen.answers["probabilities"], chosen.answers["known"])
    promotion = confirm(evaluation.with_name(PROMOTION), decide(params, answered, data))

    weights = stored(network.state_dict(), p.half)
    twin = _figures(params, data, answered.probabilities, labels)
    described = manifest(
        data, network, content["arch"], temperature, weights, twin, method,
        reference(data, answered.probabilities),
    )  # fmt: skip
    measures: dict[str, Any] = {
        "precision": chosen.precision,
        "torch": _figures(params, data, expected, labels),
        "twin": twin,
        "known": _strangers(params, data, chosen.twin, answered.known),
        "mean_difference": chosen.difference,
    }
    left = stage_reports.load(
        params.model_dump(mode="json"), evaluation.parent, report_folder, data_folder / SPLITS
    )
    text = card(described, measures | {"test_digest": promotion.test_digest}, left)
    model.parent.mkdir(parents=True, exist_ok=True)
    digest = bundle.write(model, described, weights, chosen.onnx, stored(known.state_dict(), p.half), text)
    report = PackageReport(version=described.version, sha256=digest, **measures)
    content_of = dataclasses.asdict(report) | {"not_taken": chosen.refusals}
    (report_folder / PACKAGED).write_text(json.dumps(content_of, indent=2) + "\n", "utf-8")
    promotion.write(report_folder / PROMOTION)
    _register(params, content["run_id"], model, report, report_folder, promotion, stability)
    return report


@dataclasses.dataclass(frozen=True)
class _Chosen:
    """A twin that answers as torch does, its answers to the test photos, and why others were not taken."""

    precision: str
    onnx: bytes
    twin: Twin
    answers: dict[str, Floats]
    difference: float
    refusals: list[str]


def _choose(params: Params, data: Dataset, exact: bytes, expected: Floats, labels: Labels) -> _Chosen:
    p = params.package
    # From the full weights, so that those of the int8 twin are rounded once.
    rounded = quantize(exact, data, p.calibration_photos, params.train.seed)
    candidates = {"int8": _recalibrate(rounded, data, params.evaluate.known_refused), "float32": exact}
    refusals: list[str] = []
    for precision, onnx in candidates.items():
        twin = Twin(onnx)
        answers = twin.ask(data, data.rows("test"))
        given = answers["probabilities"]
        difference = float(np.abs(given - expected).max(1).mean())
        drop = float((expected.argmax(1) == labels).mean() - (given.argmax(1) == labels).mean())
        if drop <= p.max_accuracy_drop and difference <= p.max_mean_difference:
            return _Chosen(precision, onnx, twin, answers, difference, refusals)
        refusals.append(f"{precision}: accuracy {-drop:+.4f}, mean difference {difference:.4f}")
    raise PipelineError(f"refused: the ONNX twin's answers differ from torch's ({'; '.join(refusals)})")


def _strangers(params: Params, data: Dataset, twin: Twin, known: Floats) -> dict[str, float]:
    p = params.evaluate
    others = [twin.run(other_photos(Path(p.other), data))["known"]] if p.other else []
    return measure_known(p.confidence, known, *others)


def _figures(params: Params, data: Dataset, probabilities: Floats, labels: Labels) -> dict[str, float]:
    p = params.evaluate
    return figures(probabilities, labels, data.classes, p.calibration_bins, p.resamples, p.confidence)


def _known(path: Path) -> tuple[str, Known]:
    content = torch.load(path, weights_only=True)
    return content["method"], rebuild(content["method"], content["state_dict"])


def _recalibrate(onnx: bytes, data: Dataset, refused: float) -> bytes:
    """Set temperature and threshold anew on what the rounded network answers to validation."""
    answers = Twin(onnx).ask(data, data.rows("val"))
    logits = np.log(np.clip(answers["probabilities"], 1e-12, 1))
    cooler = fit_temperature(logits, data.labels[data.rows("val")])
    return recalibrate(onnx, cooler, line_for(answers["known"], refused))


def _register(
    params: Params,
    run_id: str,
    model: Path,
    report: PackageReport,
    report_folder: Path,
    promotion: Promotion,
    stability: Stability,
) -> None:
    """Log the packaged model and register it, as champion where that was decided."""
    import mlflow

    from ml.tracking import log_figures, tracked
    from ml.tracking.registry import promote, register

    name = params.tracking.model
    with tracked(params.tracking, run_id) as run:
        mlflow.log_metrics({f"twin_{name}": value for name, value in report.twin.items()})
        mlflow.log_metric("twin_mean_difference", report.mean_difference)
        mlflow.log_metrics({f"twin_{name}": value for name, value in report.known.items()})
        mlflow.log_metrics({f"flips_{name}": found.share for name, found in stability.changes.items()})
        log_figures(report_folder)
        version = register(name, model, run, report.version, promotion.test_digest)
        if promotion.promoted:
            promote(name, version)


def main() -> None:
    """Package, and say how good it is."""
    report = run(parameters.load())
    told = f"{figure('accuracy', report.twin)} of {report.twin['photos']:.0f} test photos right"
    say(f"{MODEL}: version {report.version}, {told}; `make report` has all of it")


if __name__ == "__main__":
    with exit_cleanly():
        main()
