"""Chooses the precision of the ONNX model: int8 if its answers stay close to torch's, otherwise float32."""

import dataclasses

import numpy as np

from ml.data.dataset import Dataset
from ml.evaluation.metrics import Floats, fit_temperature
from ml.model.errors import PipelineError
from ml.model.onnx_model import OnnxModel
from ml.model.ood import fit_calibration
from ml.packaging.quantize import quantize, recalibrate
from ml.params import Params


@dataclasses.dataclass(frozen=True)
class ChosenModel:
    """The ONNX model that is packaged.

    Attributes:
        precision: `int8` or `float32`.
        onnx: the serialized model.
        model: the same model, ready to run.
        probabilities: its answers to the test photos, [N, classes].
        ood_scores: its OOD scores of the test photos, [N].
        mean_difference: mean over the test photos of the largest difference of a probability from torch's.
        not_taken: the precisions that were tried before, with the reasons against them.
    """

    precision: str
    onnx: bytes
    model: OnnxModel
    probabilities: Floats
    ood_scores: Floats
    mean_difference: float
    not_taken: list[str]


def choose_precision(params: Params, data: Dataset, exact: bytes, expected: Floats) -> ChosenModel:
    """Return the first of int8 and float32 whose answers stay close to torch's.

    Args:
        params: `package` holds the tolerances.
        data: the prepared photos.
        exact: the float32 ONNX model. It has the full weights, so those of the int8 model are rounded once.
        expected: torch's probabilities of the test photos, [N, classes].

    Raises:
        PipelineError: neither is close enough.
    """
    p = params.package
    rows = data.rows("test")
    labels = data.labels[rows]
    not_taken: list[str] = []
    for precision, onnx in (("int8", _to_int8(params, data, exact)), ("float32", exact)):
        model = OnnxModel(onnx)
        outputs = model.run(data.images, rows)
        probabilities = outputs["probabilities"]
        difference = float(np.abs(probabilities - expected).max(1).mean())
        drop = float((expected.argmax(1) == labels).mean() - (probabilities.argmax(1) == labels).mean())
        if drop <= p.max_accuracy_drop and difference <= p.max_mean_difference:
            return ChosenModel(precision, onnx, model, probabilities, outputs["known"], difference, not_taken)
        not_taken.append(f"{precision}: accuracy {-drop:+.4f}, mean difference {difference:.4f}")
    raise PipelineError(
        f"no model.pt: the ONNX model's answers differ from torch's ({'; '.join(not_taken)}); "
        "package.max_accuracy_drop and package.max_mean_difference hold the tolerances"
    )


def _to_int8(params: Params, data: Dataset, exact: bytes) -> bytes:
    """Quantize the model, then fit temperature and OOD threshold again to its answers on validation."""
    sampled = np.random.default_rng(params.train.seed).permutation(data.rows("train"))
    calibration = np.sort(sampled[: params.package.calibration_photos])
    quantized = quantize(exact, data.images[calibration])
    val = data.rows("val")
    outputs = OnnxModel(quantized).run(data.images, val)
    logits = np.log(np.clip(outputs["probabilities"], 1e-12, 1))
    temperature = fit_temperature(logits, data.labels[val])
    edge, slope = fit_calibration(outputs["known"], params.evaluate.ood_rejected)
    return recalibrate(quantized, temperature, edge, slope)
