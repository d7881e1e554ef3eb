"""The ONNX twin: a network with all that an answer takes in its graph, float32 or int8.

Input `image`; outputs `probabilities`, `known` (see `ml.known`) and `evidence`, which place says what.
"""

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml.answering import Answering
from ml.dataset import Dataset
from ml.known import Known
from ml.networks import Network
from ml.training.batches import plain_batches

OPSET = 20
_BATCH = 32


def export(network: Network, temperature: float, image_size: int, known: Known | None = None) -> bytes:
    """Translate a network into a serialized ONNX graph for any number of images."""
    module = Answering(network, temperature, known).eval()
    example = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own use of deprecated parts of torch
        program = torch.onnx.export(
            module,
            (example,),
            input_names=["image"],
            output_names=["probabilities", *(["known"] if known else []), "evidence"],
            dynamic_shapes={"image": {0: torch.export.Dim("N", min=1)}},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return cast(bytes, program.model_proto.SerializeToString())


class _Photos:
    """Calibration photos in batches, in the form that ONNX Runtime's quantizer reads."""

    def __init__(self, data: Dataset, rows: NDArray[np.int64]) -> None:
        self.batches: Iterator[tuple[Tensor, Tensor]] = plain_batches(data, rows, 16)

    def get_next(self) -> dict[str, NDArray[np.uint8]] | None:
        """Return the next batch, or None at the end."""
        batch = next(self.batches, None)
        return None if batch is None else {"image": batch[0].numpy()}


def quantize(onnx: bytes, data: Dataset, photos: int, seed: int) -> bytes:
    """Turn a float32 twin into int8 by static quantization calibrated on training photos.

    Weights a channel, activations a tensor; the last layer and the softmax stay float32. Signed weights of
    8 bits beside unsigned activations, which is ten times as fast here as both unsigned. Processors without
    VNNI add two such products in 16 bits, which can saturate (ONNX Runtime's documentation, "Quantize ONNX
    models"); weights of 7 bits avoid that and cost 0.26 points of accuracy on the default model.
    """
    from onnxruntime.quantization import CalibrationMethod, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    rows = np.random.default_rng(seed).permutation(data.rows("train"))[:photos]
    with tempfile.TemporaryDirectory() as folder:
        source, target = Path(folder, "float.onnx"), Path(folder, "int8.onnx")
        source.write_bytes(onnx)
        prepared = Path(folder, "prepared.onnx")
        quant_pre_process(str(source), str(prepared), skip_symbolic_shape=True)
        quantize_static(
            prepared,
            target,
            _Photos(data, np.sort(rows)),
            quant_format=QuantFormat.QDQ,
            op_types_to_quantize=[
                "Conv",
                "Add",
                "GlobalAveragePool",
                "Clip",
                "Relu",
                "MaxPool",
                "Pad",
                "Gemm",
            ],
            # The last layer stays exact; the head of `known`, a thousand times its size, need not.
            nodes_to_exclude=_last_layers(prepared),
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return target.read_bytes()


_OF_KNOWN = {"known.narrow.weight", "known.head.weight"}


def _last_layers(path: Path) -> list[str]:
    """Names of the Gemm nodes that aren't the head of `known`."""
    import onnx as onnx_format

    nodes = onnx_format.load(path).graph.node
    return [node.name for node in nodes if node.op_type == "Gemm" and not _OF_KNOWN & set(node.input)]


def recalibrate(onnx: bytes, cooler: float, line: tuple[float, float] | None) -> bytes:
    """Set right what rounding has moved: divide the logits by `cooler`; `line` is that of `ml.known`."""
    import onnx as onnx_format

    model = onnx_format.load_from_string(onnx)
    made_by = {output: node for node in model.graph.node for output in node.output}

    def scale(name: str, kind: str, by: float, value: str) -> None:
        """Put one more node of that kind before the one that makes `value`."""
        target = made_by[value]
        constant = onnx_format.numpy_helper.from_array(np.array(by, np.float32), f"{name}.by")
        model.graph.initializer.append(constant)
        node = onnx_format.helper.make_node(kind, [target.input[0], f"{name}.by"], [name], name=name)
        model.graph.node.insert(list(model.graph.node).index(target), node)
        target.input[0] = name

    scale("recalibrated.temperature", "Div", cooler, "probabilities")
    if line is not None:
        scale("recalibrated.edge", "Sub", line[0], "known")
        scale("recalibrated.slope", "Mul", line[1], "known")
    return cast(bytes, model.SerializeToString())


class Twin:
    """A serialized twin, to be asked."""

    def __init__(self, onnx: bytes) -> None:
        """Load it."""
        import onnxruntime

        self._session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
        self.outputs = [output.name for output in self._session.get_outputs()]

    def run(self, images: NDArray[np.uint8]) -> dict[str, NDArray[np.float64]]:
        """Ask for images [N, H, W, 3]; return each output by its name."""
        parts = [
            self._session.run(self.outputs, {"image": np.ascontiguousarray(images[start : start + _BATCH])})
            for start in range(0, len(images), _BATCH)
        ]
        found = (np.concatenate(some) for some in zip(*parts, strict=True))
        return {name: value.astype(np.float64) for name, value in zip(self.outputs, found, strict=True)}

    def ask(self, data: Dataset, rows: NDArray[np.int64]) -> dict[str, NDArray[np.float64]]:
        """Ask for photos of a data set; return each output by its name."""
        parts = [self.run(pixels.numpy()) for pixels, _ in plain_batches(data, rows, _BATCH)]
        return {name: np.concatenate([part[name] for part in parts]) for name in self.outputs}


def answers(onnx: bytes, data: Dataset, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probabilities [N, classes] that a twin gives to photos."""
    return Twin(onnx).ask(data, rows)["probabilities"]
