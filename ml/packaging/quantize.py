"""Chooses the precision of the ONNX model: int8 if its answers stay close to torch's, otherwise float32."""

import dataclasses
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, helper, load, load_from_string, numpy_helper

from ml.data.dataset import Dataset
from ml.evaluation.compare import WORSE, compare_losses
from ml.evaluation.metrics import Floats, Labels, fit_temperature, log_losses
from ml.model.onnx_model import FITS_16_BITS, OnnxModel
from ml.model.ood import fit_calibration
from ml.packaging.conditional import run_if_unsure
from ml.packaging.conditions import Condition
from ml.packaging.pixels import feed_pixels
from ml.packaging.weight_ranges import weight_ranges
from ml.params import Params

_BATCH = 16
_ERROR_RATE, _MAX_GROWTH = 0.04, 5
"""Networks with more errors have a larger tolerance, up to five times as large."""
_QUANTIZED = ["Conv", "Add", "GlobalAveragePool", "Clip", "Relu", "MaxPool", "Pad", "Gemm"]
_SURE_FROM = "network.sure_from"  # see `ml.model.two_looks`
_OOD_SCORE_WEIGHTS = {"known.narrow.weight", "known.head.weight"}


@dataclasses.dataclass(frozen=True)
class ChosenModel:
    """The ONNX model that is packaged.

    Attributes:
        precision: `int8` or `float32`.
        onnx: the serialized model.
        model: the same model, ready to run.
        answers: its outputs for the test photos, by name, see `ml.packaging.export`.
        mean_difference: mean over the test photos of the largest difference of a probability from torch's.
        comparison: its precision, and how its answers differ from torch's.
        not_taken: comparisons of the precisions that were tried and rejected.
        remedies: the parameters whose limits it exceeds, with values that it would meet; empty: its answers
            are close enough.
    """

    precision: str
    onnx: bytes
    model: OnnxModel
    answers: Mapping[str, Floats]
    mean_difference: float
    comparison: str
    not_taken: list[str]
    remedies: Sequence[str] = ()

    @property
    def probabilities(self) -> Floats:
        """Its probabilities of the test photos, [N, classes]."""
        return self.answers["probabilities"]

    def condition(self) -> Condition:
        """Return the condition that its answers are those of the network in PyTorch."""
        detail = "; ".join([*self.not_taken, self.comparison])
        remedies = " ".join(self.remedies)
        return Condition("an ONNX model that answers as PyTorch does", not remedies, detail, remedies)


def choose_precision(params: Params, data: Dataset, exact: bytes, expected: Floats) -> ChosenModel:
    """Return the first of int8 and float32 whose answers stay close to torch's, within `params.package`.

    If neither is close enough, it is the float32 model. The probabilities of a network that is wrong on many
    photos move more easily: the tolerance grows with its error rate, as long as its log loss does not.

    Args:
        params: all parameters.
        data: the prepared photos.
        exact: the float32 ONNX model. It has the full weights, so those of the int8 model are rounded once.
        expected: torch's probabilities of the test photos, [N, classes].
    """
    rows = data.rows("test")
    labels = data.labels[rows]
    not_taken: list[str] = []
    for precision, onnx in (("int8", _to_int8(params, data, exact)), ("float32", exact)):
        model = OnnxModel(onnx)
        outputs = model.run(data.images, rows)
        probabilities = outputs["probabilities"]
        difference = float(np.abs(probabilities - expected).max(1).mean())
        remedies = _remedies(params, probabilities, expected, labels, difference)
        gain = (_hits(probabilities, labels) - _hits(expected, labels)) / len(rows)
        comparison = f"{precision}: accuracy {gain:+.4f}, mean difference {difference:.4f}"
        if not remedies or onnx is exact:
            break
        not_taken.append(comparison)
    return ChosenModel(precision, onnx, model, outputs, difference, comparison, not_taken, remedies)


def _remedies(
    params: Params, probabilities: Floats, expected: Floats, labels: Labels, difference: float
) -> list[str]:
    """Return the limits of `package`, which params.yaml explains, that answers exceed, with higher values."""
    p, photos, remedies = params.package, len(labels), []
    lost = _hits(expected, labels) - _hits(probabilities, labels)
    if lost > 1 and lost / photos > p.max_accuracy_drop:  # as in the remedy; a product may round to less
        remedies.append(f"package.max_accuracy_drop={np.ceil(1000 * lost / photos) / 1000:g}")
    growth = min((1 - _hits(expected, labels) / photos) / _ERROR_RATE, _MAX_GROWTH)
    is_tolerated = difference <= growth * p.max_mean_difference
    if difference > p.max_mean_difference and not (
        is_tolerated and not _is_worse(params, probabilities, expected, labels)
    ):
        remedies.append(f"package.max_mean_difference={np.ceil(1000 * difference) / 1000:g}")
    return remedies


def _hits(probabilities: Floats, labels: Labels) -> int:
    return int((probabilities.argmax(1) == labels).sum())


def _is_worse(params: Params, probabilities: Floats, expected: Floats, labels: Labels) -> bool:
    """Return whether the log loss of probabilities is clearly larger than that of the expected ones."""
    p = params.evaluate
    losses, expected_losses = log_losses(probabilities, labels), log_losses(expected, labels)
    return compare_losses(losses, expected_losses, p.resamples, p.confidence, p.min_change).verdict == WORSE


def _to_int8(params: Params, data: Dataset, exact: bytes) -> bytes:
    """Quantize the model, then fit temperature and OOD threshold again to its answers on validation."""
    calibration = data.sample("train", params.package.calibration_photos, params.train.seed)
    every_second_look = _with_constant(exact, _SURE_FROM, np.inf)  # so that both networks see all photos
    quantized = feed_pixels(_quantize(every_second_look, data.images[calibration]))
    quantized = _with_constant(run_if_unsure(quantized), _SURE_FROM, _constant(exact, _SURE_FROM))
    val = data.rows("val")
    outputs = OnnxModel(quantized).run(data.images, val)
    logits = np.log(np.clip(outputs["probabilities"], 1e-12, 1))
    temperature = fit_temperature(logits, data.labels[val])
    return _recalibrate(
        quantized, temperature, *fit_calibration(outputs["known"], params.evaluate.ood_rejected)
    )


def _quantize(onnx: bytes, photos: NDArray[np.uint8]) -> bytes:
    """Quantize a float32 ONNX model to int8, with ranges calibrated on photos [N, H, W, 3].

    Weights have one range per channel, activations one per tensor; the last layer and the softmax stay
    float32. Weights are signed and activations unsigned, which is ten times as fast here as both unsigned.
    CPUs without VNNI add two such products in 16 bits, which can saturate (ONNX Runtime's documentation,
    "Quantize ONNX models"); the weights' ranges avoid that.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    batches = ({"image": photos[first : first + _BATCH]} for first in range(0, len(photos), _BATCH))
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder, f"{name}.onnx") for name in ("float", "prepared", "int8"))
        source.write_bytes(onnx)
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        model = load(prepared)
        # The last layer must stay exact. The OOD score, a thousand times its size, need not.
        last_layers = _last_layers(model)
        quantize_static(
            prepared,
            target,
            SimpleNamespace(get_next=lambda: next(batches, None)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTIZED,
            nodes_to_exclude=last_layers,
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
            extra_options={"TensorQuantOverrides": weight_ranges(model, last_layers)},
        )
        quantized = load(target)
        quantized.metadata_props.add(key=FITS_16_BITS, value="yes")
        return cast(bytes, quantized.SerializeToString())


def _constant(onnx: bytes, name: str) -> float:
    """Return the value of a constant number, 0 if there is none of that name."""
    constants = load_from_string(onnx).graph.initializer
    return next((numpy_helper.to_array(one).item() for one in constants if one.name == name), 0.0)


def _with_constant(onnx: bytes, name: str, value: float) -> bytes:
    """Return the model with another value of a constant number, if it has one of that name."""
    model = load_from_string(onnx)
    for one in model.graph.initializer:
        if one.name == name:
            one.CopyFrom(numpy_helper.from_array(np.array(value, np.float32), name))
    return cast(bytes, model.SerializeToString())


def _last_layers(model: ModelProto) -> list[str]:
    """Return the names of the Gemm nodes that are not part of the OOD score."""
    return [
        node.name
        for node in model.graph.node
        if node.op_type == "Gemm" and not _OOD_SCORE_WEIGHTS & set(node.input)
    ]


def _recalibrate(onnx: bytes, temperature: float, edge: float, slope: float) -> bytes:
    """Divide the logits by a temperature once more, and calibrate the OOD score, see `fit_calibration`."""
    model = load_from_string(onnx)
    producers = {output: node for node in model.graph.node for output in node.output}

    def insert_before(output: str, name: str, operator: str, operand: float) -> None:
        """Insert a node between the producer of an output and its first input."""
        producer = producers[output]
        constant = numpy_helper.from_array(np.array(operand, np.float32), f"{name}.by")
        model.graph.initializer.append(constant)
        node = helper.make_node(operator, [producer.input[0], f"{name}.by"], [name], name=name)
        model.graph.node.insert(list(model.graph.node).index(producer), node)
        producer.input[0] = name

    insert_before("probabilities", "recalibrated.temperature", "Div", temperature)
    insert_before("known", "recalibrated.edge", "Sub", edge)
    insert_before("known", "recalibrated.slope", "Mul", slope)
    return cast(bytes, model.SerializeToString())
