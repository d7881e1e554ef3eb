"""Removes the normalization of the pixels from an int8 model whose quantization undoes it."""

from collections.abc import Iterator
from typing import cast

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, load_from_string

from ml.model.onnx_model import OnnxModel

_CHANNELS_FIRST = (0, 3, 1, 2)


def feed_pixels(onnx: bytes) -> bytes:
    """Let an int8 model read the pixels directly, if it quantizes the normalized pixels to the same values.

    The model computes (p / 255 - mean) / std for a pixel p, and quantizes the result. If mean and std are the
    same for all channels, and the calibration photos contain black and white pixels, the quantized value is p
    again. All 256 values are tried in all channels, so no answer can change.

    Args:
        onnx: the serialized model, with the input `image`, uint8 [N, H, W, 3].

    Returns:
        The model without the steps between, or the same model if they change a value.
    """
    model = load_from_string(onnx)
    quantized = next(
        (node for node in _after(model.graph, "image") if node.op_type == "QuantizeLinear"), None
    )
    if quantized is None:
        return onnx
    name = quantized.output[0]
    if not np.array_equal(*_quantized_and_original(model, name)):
        return onnx
    quantized.CopyFrom(helper.make_node("Transpose", ["image"], [name], "pixels", perm=_CHANNELS_FIRST))
    _remove_unused(model.graph)
    return cast(bytes, model.SerializeToString())


def _after(graph: GraphProto, name: str) -> Iterator[NodeProto]:
    """Yield the nodes that follow a tensor, as long as each tensor has one consumer."""
    while len(consumers := [node for node in graph.node if name in node.input]) == 1:
        yield consumers[0]
        name = consumers[0].output[0]


def _quantized_and_original(model: ModelProto, name: str) -> tuple[NDArray[np.float64], NDArray[np.uint8]]:
    """Return the quantized values of a test image with all 256 values in each channel, and its pixels."""
    _, height, width, _ = (side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim)
    values = np.resize(np.arange(256, dtype=np.uint8), (1, height, width))
    pixels = np.stack([values, values[:, ::-1], values[:, :, ::-1]], axis=-1)
    steps = ModelProto()
    steps.CopyFrom(model)
    del steps.graph.output[:]
    steps.graph.output.append(helper.make_tensor_value_info(name, TensorProto.UINT8, None))
    return OnnxModel(steps.SerializeToString()).run(pixels)[name], pixels.transpose(_CHANNELS_FIRST)


def _remove_unused(graph: GraphProto) -> None:
    """Remove the nodes and constants whose results nothing uses."""
    while True:
        used = {name for node in graph.node for name in node.input} | {each.name for each in graph.output}
        unused = [node for node in graph.node if not used & set(node.output)]
        if not unused:
            break
        for node in unused:
            graph.node.remove(node)
    for constant in [each for each in graph.initializer if each.name not in used]:
        graph.initializer.remove(constant)
