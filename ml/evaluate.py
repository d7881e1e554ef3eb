"""Stage evaluate: what an answer takes beside the network, from validation; figures of the test split.

And whether it is better than the champion of the registry, which decides what becomes of it.
"""

import csv
import dataclasses
import json
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ml import params as parameters
from ml.cli import exit_cleanly
from ml.dataset import FOLDER, Dataset
from ml.errors import PipelineError
from ml.evaluation import plots
from ml.evaluation.features import look, look_at_others, other_photos
from ml.evaluation.promotion import Answers, Promotion, decide
from ml.evaluation.slices import slices
from ml.evaluation.strangers import Comparison, choose, score
from ml.metrics import Floats, Labels, figures, fit_temperature, softmax
from ml.networks import Network, build
from ml.params import Params
from ml.paths import HISTORY, KNOWN, METRICS, PROMOTION, REPORT, SLICES
from ml.train import CHECKPOINT


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """Figures of the network, before it is packaged.

    Attributes:
        temperature: fitted on validation.
        test: figures of the test split, see `ml.metrics.figures`.
        known: ways to tell photos of something else, see `ml.evaluation.strangers`.
        test_digest: which photos those are, see `Dataset.digest`.
    """

    temperature: float
    test: dict[str, float]
    known: Comparison
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


def run(
    params: Params,
    data_folder: Path = FOLDER,
    checkpoint: Path = CHECKPOINT,
    history: Path = HISTORY,
    report: Path = REPORT,
) -> Evaluation:
    """Measure the checkpoint and write metrics.json, predictions.csv and the pictures to `report`."""
    p = params.evaluate
    data = Dataset.load(data_folder)
    network, content = load_checkpoint(checkpoint, data)
    val, test = (look(network, data, data.rows(split)) for split in ("val", "test"))
    temperature = fit_temperature(val.logits, val.labels)
    probabilities, labels = softmax(test.logits, temperature), test.labels
    some = np.random.default_rng(params.train.seed).permutation(data.rows("train"))[: p.known_photos]
    other_images = other_photos(Path(p.other), data) if p.other else None
    others = look_at_others(network, other_images) if other_images is not None else None
    method, known, compared = choose(p, network, look(network, data, np.sort(some)), val, test, others)
    result = Evaluation(
        temperature,
        figures(probabilities, labels, data.classes, p.calibration_bins, p.resamples, p.confidence),
        compared,
        data.digest("test"),
    )
    scores = [score(known, seen.features) for seen in (test, others) if seen is not None]
    promotion = decide(params, Answers(probabilities, *scores), data, other_images)

    report.mkdir(parents=True, exist_ok=True)
    torch.save({"method": method, "state_dict": known.state_dict()}, report / KNOWN)
    (report / METRICS).write_text(json.dumps(dataclasses.asdict(result), indent=2) + "\n", "utf-8")
    promotion.write(report / PROMOTION)
    found = slices(data, probabilities, p.confidence)
    (report / SLICES).write_text(json.dumps(found, indent=2) + "\n", "utf-8")
    rows = data.rows("test")
    _write_predictions(data, rows, probabilities, report / "predictions.csv")
    plots.confusion_matrix(probabilities, labels, data.classes, report / "confusion_matrix.png")
    plots.roc(probabilities, labels, data.classes, report / "roc.png")
    plots.reliability(probabilities, labels, p.calibration_bins, report / "reliability.png")
    plots.curves(json.loads(history.read_text("utf-8"))["history"], report / "curves.png")
    plots.worst_mistakes(probabilities, labels, rows, data, p.worst_mistakes, report / "worst_mistakes.png")
    _track(params, content["run_id"], result, promotion, report)
    return result


def _write_predictions(data: Dataset, rows: Labels, probabilities: Floats, path: Path) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file)
        table.writerow(["path", "label", *data.classes])
        for row, some in zip(rows, probabilities, strict=True):
            table.writerow([data.paths[row], data.classes[data.labels[row]], *(f"{p:.6f}" for p in some)])


def _track(params: Params, run_id: str, result: Evaluation, promotion: Promotion, report: Path) -> None:
    import mlflow

    from ml.tracking import log_figures, tracked

    with tracked(params.tracking, run_id):
        mlflow.log_metrics({f"test_{name}": value for name, value in result.test.items()})
        mlflow.log_metric("temperature", result.temperature)
        for method, found in result.known.items():
            mlflow.log_metrics({f"known_{method}_{name}": value for name, value in found.items()})
        mlflow.log_metrics({f"promotion_{name}": value for name, value in promotion.figures().items()})
        log_figures(report)


if __name__ == "__main__":
    with exit_cleanly():
        run(parameters.load())
