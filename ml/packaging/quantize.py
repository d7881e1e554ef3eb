"""Quantizes a float32 ONNX model to int8."""

import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import numpy as np
from numpy.typing import NDArray

from ml.data.dataset import Dataset
from ml.evaluation.metrics import fit_temperature
from ml.model.onnx_model import OnnxModel
from ml.model.ood import fit_calibration
from ml.packaging.pixels import feed_pixels
from ml.params import Params

_BATCH = 16
_QUANTIZED = ["Conv", "Add", "GlobalAveragePool", "Clip", "Relu", "MaxPool", "Pad", "Gemm"]
_OOD_SCORE_WEIGHTS = {"known.narrow.weight", "known.head.weight"}


def to_int8(params: Params, data: Dataset, exact: bytes) -> bytes:
    """Quantize a float32 ONNX model, and fit it again to the validation photos."""
    calibration = data.sample("train", params.package.calibration_photos, params.train.seed)
    return recalibrate(params, data, feed_pixels(_quantize(exact, data.images[calibration])))


def recalibrate(params: Params, data: Dataset, onnx: bytes) -> bytes:
    """Fit temperature and OOD threshold again, to the model's own answers to the validation photos."""
    val = data.rows("val")
    outputs = OnnxModel(onnx).run(data.images, val, ["probabilities", "known"])
    logits = np.log(np.clip(outputs["probabilities"], 1e-12, 1))
    temperature = fit_temperature(logits, data.labels[val])
    return _with_calibration(
        onnx, temperature, *fit_calibration(outputs["known"], params.evaluate.ood_rejected)
    )


def _quantize(onnx: bytes, photos: NDArray[np.uint8]) -> bytes:
    """Quantize a float32 ONNX model to int8, with ranges calibrated on photos [N, H, W, 3].

    Weights have one range per channel, activations one per tensor; the last layer and the softmax stay
    float32. Weights are signed and activations unsigned, which is ten times as fast here as both unsigned.
    CPUs without VNNI add two such products in 16 bits, which can saturate (ONNX Runtime's documentation,
    "Quantize ONNX models"). Weights of 7 bits avoid that, but cost 0.26 points of accuracy on the default
    model.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    batches = ({"image": photos[first : first + _BATCH]} for first in range(0, len(photos), _BATCH))
    with tempfile.TemporaryDirectory() as folder:
        source, prepared, target = (Path(folder, f"{name}.onnx") for name in ("float", "prepared", "int8"))
        source.write_bytes(onnx)
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            SimpleNamespace(get_next=lambda: next(batches, None)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=_QUANTIZED,
            # The last layer must stay exact. The OOD score, a thousand times its size, need not.
            nodes_to_exclude=_last_layers(prepared),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return target.read_bytes()


def _last_layers(path: Path) -> list[str]:
    """Return the names of the Gemm nodes that are not part of the OOD score."""
    import onnx as onnx_format

    nodes = onnx_format.load(path).graph.node
    return [
        node.name for node in nodes if node.op_type == "Gemm" and not _OOD_SCORE_WEIGHTS & set(node.input)
    ]


def _with_calibration(onnx: bytes, temperature: float, edge: float, slope: float) -> bytes:
    """Divide the logits by a temperature once more, and calibrate the OOD score, see `fit_calibration`."""
    import onnx as onnx_format

    model = onnx_format.load_from_string(onnx)
    producers = {output: node for node in model.graph.node for output in node.output}

    def insert_before(output: str, name: str, operator: str, operand: float) -> None:
        """Insert a node between the producer of an output and its first input."""
        producer = producers[output]
        constant = onnx_format.numpy_helper.from_array(np.array(operand, np.float32), f"{name}.by")
        model.graph.initializer.append(constant)
        node = onnx_format.helper.make_node(operator, [producer.input[0], f"{name}.by"], [name], name=name)
        model.graph.node.insert(list(model.graph.node).index(producer), node)
        producer.input[0] = name

    insert_before("probabilities", "recalibrated.temperature", "Div", temperature)
    insert_before("known", "recalibrated.edge", "Sub", edge)
    insert_before("known", "recalibrated.slope", "Mul", slope)
    return cast(bytes, model.SerializeToString())
