"""Stage package: `model.pt` with its ONNX twin, or a refusal; registered, and champion where it is better."""

import dataclasses
import datetime
import hashlib
import json
from pathlib import Path

import numpy as np
from torch import Tensor

from ml import bundle, reference
from ml import params as parameters
from ml.cli import exit_cleanly
from ml.dataset import FOLDER, Dataset
from ml.errors import PipelineError
from ml.evaluate import load_checkpoint, logits_of
from ml.metrics import Floats, Labels, figures, softmax
from ml.networks import Network
from ml.params import Params
from ml.paths import METRICS, MODEL, PACKAGE_REPORT, REPORT
from ml.train import CHECKPOINT
from ml.twin import answers, export, quantize


@dataclasses.dataclass(frozen=True)
class PackageReport:
    """What went into `model.pt`.

    Attributes:
        precision: `int8` or `float32`, of the twin.
        version: of the model.
        sha256: of the file.
        torch: figures of the network in torch on the test split.
        twin: figures of the twin on the same photos.
        mean_difference: mean over photos of the largest difference of a probability between the two.
    """

    precision: str
    version: str
    sha256: str
    torch: dict[str, float]
    twin: dict[str, float]
    mean_difference: float


def run(
    params: Params,
    data_folder: Path = FOLDER,
    checkpoint: Path = CHECKPOINT,
    evaluation: Path = REPORT / METRICS,
    model: Path = MODEL,
    report_folder: Path = PACKAGE_REPORT,
) -> PackageReport:
    """Package the checkpoint; the int8 twin where it holds the tolerances, else the float32 one.

    Raises:
        PipelineError: the accuracy is under `package.min_accuracy`, or no twin answers as torch does.
    """
    p = params.package
    data = Dataset.load(data_folder)
    network, content = load_checkpoint(checkpoint, data)
    measured = json.loads(evaluation.read_text("utf-8"))
    if measured["test"]["accuracy"] < p.min_accuracy:
        found = measured["test"]["accuracy"]
        raise PipelineError(f"refused: test accuracy {found:.4f}, package.min_accuracy is {p.min_accuracy}")
    temperature = measured["temperature"]
    logits, labels = logits_of(network, data, "test")
    expected = softmax(logits, temperature)

    # From the full weights, so that those of the int8 twin are rounded once.
    exact = export(network, temperature, data.image_size)
    candidates = {"int8": quantize(exact, data, p.calibration_photos, params.train.seed), "float32": exact}
    refusals = []
    for precision, onnx in candidates.items():
        given = answers(onnx, data, data.rows("test"))
        difference = float(np.abs(given - expected).max(1).mean())
        drop = float((expected.argmax(1) == labels).mean() - (given.argmax(1) == labels).mean())
        if drop <= p.max_accuracy_drop and difference <= p.max_mean_difference:
            break
        refusals.append(f"{precision}: accuracy {-drop:+.4f}, mean difference {difference:.4f}")
    else:
        raise PipelineError(f"refused: the ONNX twin's answers differ from torch's ({'; '.join(refusals)})")

    weights = _weights(network, p.half)
    twin = _figures(params, data, given, labels)
    manifest = _manifest(
        params, data, network, content["arch"], temperature, weights, twin, _reference(data, given)
    )
    model.parent.mkdir(parents=True, exist_ok=True)
    digest = bundle.write(model, manifest, weights, onnx)
    report = PackageReport(
        precision, manifest.version, digest, _figures(params, data, expected, labels), twin, difference
    )
    report_folder.mkdir(parents=True, exist_ok=True)
    text = json.dumps(dataclasses.asdict(report) | {"not_taken": refusals}, indent=2) + "\n"
    (report_folder / "package.json").write_text(text, "utf-8")
    _register(params, content["run_id"], model, report, report_folder, data)
    return report


def _figures(params: Params, data: Dataset, probabilities: Floats, labels: Labels) -> dict[str, float]:
    p = params.evaluate
    return figures(probabilities, labels, data.classes, p.calibration_bins, p.resamples, p.confidence)


def _reference(data: Dataset, given: Floats) -> dict[str, dict[str, float]]:
    """Describe the photos that trained it, and its answers to those that didn't."""
    rows = data.rows("train")
    sizes = data.sizes[rows]
    inputs = {
        "brightness": np.array([reference.brightness(data.images[row]) for row in rows]),
        "aspect_ratio": sizes[:, 0] / sizes[:, 1],
        "short_side_pixels": sizes.min(1),
    }
    return reference.describe(data.classes, inputs, given.max(1), given.argmax(1))


def _weights(network: Network, half: bool) -> dict[str, Tensor]:
    """Return the weights as they are stored: with `half`, matrices and kernels in 16 bits, the rest in 32."""
    return {
        name: value.half() if half and value.is_floating_point() and value.ndim > 1 else value
        for name, value in network.state_dict().items()
    }


def _manifest(
    params: Params,
    data: Dataset,
    network: Network,
    arch: str,
    temperature: float,
    weights: dict[str, Tensor],
    metrics: dict[str, float],
    reference: dict[str, dict[str, float]],
) -> bundle.Manifest:
    from ml.tracking import dataset_md5, git_commit

    content = hashlib.sha256()
    for name, value in weights.items():
        content.update(name.encode() + value.contiguous().numpy().tobytes())
    return bundle.Manifest(
        arch=arch,
        classes=data.classes,
        image_size=data.image_size,
        resize=data.resize,
        mean=network.mean,
        std=network.std,
        temperature=temperature,
        metrics={name: round(value, 6) for name, value in metrics.items()},
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        version=content.hexdigest()[:12],
        git_commit=git_commit(),
        dataset_md5=dataset_md5(),
        reference=reference,
    )


def _register(
    params: Params, run_id: str, model: Path, report: PackageReport, report_folder: Path, data: Dataset
) -> None:
    """Log the packaged model, register it, and make it champion if it beats the holder on the same photos."""
    import mlflow

    from ml.registry import promote, register
    from ml.tracking import log_figures, tracked

    with tracked(params.tracking, run_id) as run:
        mlflow.log_metrics({f"twin_{name}": value for name, value in report.twin.items()})
        mlflow.log_metric("twin_mean_difference", report.mean_difference)
        log_figures(report_folder)
        version = register(params.tracking.model, model, run, report.version, data.digest("test"))
        promote(params.tracking.model, version, report.twin["log_loss"], data)


if __name__ == "__main__":
    with exit_cleanly():
        run(parameters.load())
