"""The ONNX twin: a network with normalization, temperature and softmax in its graph, float32 or int8."""

import tempfile
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ml.batches import plain_batches
from ml.dataset import Dataset
from ml.networks import Network, Normalization

OPSET = 20


class Answering(nn.Module):
    """A network from uint8 pixels [N, H, W, 3] to probabilities [N, classes]."""

    def __init__(self, network: Network, temperature: float) -> None:
        super().__init__()
        self.network = network
        self.normalize = Normalization(network.mean, network.std)
        self.temperature = temperature

    def forward(self, image: Tensor) -> Tensor:
        """Answer for each image."""
        return cast(Tensor, (self.network(self.normalize(image.float())) / self.temperature).softmax(1))


def export(network: Network, temperature: float, image_size: int) -> bytes:
    """Translate a network into a serialized ONNX graph for any number of images."""
    module = Answering(network, temperature).eval()
    example = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter's own use of deprecated parts of torch
        program = torch.onnx.export(
            module,
            (example,),
            input_names=["image"],
            output_names=["probabilities"],
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
            op_types_to_quantize=["Conv", "Add", "GlobalAveragePool", "Clip", "Relu", "MaxPool", "Pad"],
            per_channel=True,
            activation_type=QuantType.QUInt8,
            weight_type=QuantType.QInt8,
            calibrate_method=CalibrationMethod.MinMax,
        )
        return target.read_bytes()


def answers(onnx: bytes, data: Dataset, rows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Probabilities [N, classes] that a twin gives to photos."""
    import onnxruntime

    session = onnxruntime.InferenceSession(onnx, providers=["CPUExecutionProvider"])
    parts = [
        session.run(["probabilities"], {"image": pixels.numpy()})[0]
        for pixels, _ in plain_batches(data, rows, 32)
    ]
    return np.concatenate(parts).astype(np.float64)
