"""Removes the normalization of the pixels from an int8 model whose quantization undoes it."""

from collections.abc import Iterable, Iterator
from itertools import takewhile
from typing import cast

import numpy as np
from numpy.typing import NDArray
from onnx import GraphProto, ModelProto, NodeProto, TensorProto, helper, load_from_string, numpy_helper

from ml.model.onnx_model import OnnxModel

_CHANNELS_FIRST = (0, 3, 1, 2)
_NORMALIZATION = ("Cast", "Sub", "Div", "Transpose")
_ROUNDING = 1  # of a smaller photo's pixel, which may lie in the middle between two values


def feed_pixels(onnx: bytes) -> bytes:
    """Let an int8 model read the pixels directly, if it quantizes the normalized pixels to the same values.

    The model computes (p / 255 - mean) / std for a pixel p, and quantizes the result. If mean and std are the
    same for all channels, and the calibration photos contain black and white pixels, the quantized value is p
    again. All 256 values are tried in all channels, so no answer can change. The first network of two makes
    the photo smaller before; there, rounding may differ by one level.

    Args:
        onnx: the serialized model, with the input `image`, uint8 [N, H, W, 3].

    Returns:
        The model without the steps between, or the same model if they change a value.
    """
    model, fed = load_from_string(onnx), load_from_string(onnx)
    steps = list(takewhile(lambda node: node.op_type in _NORMALIZATION, _after(model.graph, "image")))
    differences = _feed(fed.graph, steps[-1].output[0]) if steps else {}
    if not differences:
        return onnx
    before, after = _quantized(model, differences), _quantized(fed, differences)
    if any(np.abs(after[name] - before[name]).max() > most for name, most in differences.items()):
        return onnx
    _remove_unused(fed.graph)
    return cast(bytes, fed.SerializeToString())


def _after(graph: GraphProto, name: str) -> Iterator[NodeProto]:
    """Yield the nodes that follow a tensor, as long as each tensor has one consumer."""
    while len(consumers := _consumers(graph, name)) == 1:
        yield consumers[0]
        name = consumers[0].output[0]


def _consumers(graph: GraphProto, name: str) -> list[NodeProto]:
    return [node for node in graph.node if name in node.input]


def _feed(graph: GraphProto, normalized: str) -> dict[str, int]:
    """Give the pixels to all that takes the normalized ones.

    Returns:
        How much the values of each quantized tensor may change, by its name; empty: it is another graph.
    """
    differences = {}
    for node in _consumers(graph, normalized):
        output = node.output[0]
        following = _consumers(graph, output)
        is_quantized = [each.op_type for each in following] == ["QuantizeLinear"]
        if node.op_type == "QuantizeLinear":  # one look at the whole photo
            node.CopyFrom(helper.make_node("Transpose", ["image"], [output], "pixels", perm=_CHANNELS_FIRST))
            differences[output] = 0
        elif node.op_type == "GatherND" and is_quantized:  # the photos that get a second look
            node.input[0], node.output[0] = "pixels", following[0].output[0]
            graph.node.remove(following[0])
            differences[node.output[0]] = 0
        elif node.op_type == "Resize" and is_quantized:  # smaller ones for the first look
            node.input[0] = "pixels.float"
            following[0].input[1:] = ["pixels.scale", "pixels.zero"]
            differences[following[0].output[0]] = _ROUNDING
        elif node.op_type == "Shape":
            node.input[0] = "pixels"
        else:
            return {}
    graph.node.insert(0, helper.make_node("Cast", ["pixels"], ["pixels.float"], to=TensorProto.FLOAT))
    graph.node.insert(0, helper.make_node("Transpose", ["image"], ["pixels"], perm=_CHANNELS_FIRST))
    graph.initializer.append(numpy_helper.from_array(np.array(1, np.float32), "pixels.scale"))
    graph.initializer.append(numpy_helper.from_array(np.array(0, np.uint8), "pixels.zero"))
    del graph.value_info[:]  # what is gathered has another type now
    return differences


def _quantized(model: ModelProto, names: Iterable[str]) -> dict[str, NDArray[np.float64]]:
    """Return some tensors for a test image with all 256 values in each channel."""
    _, height, width, _ = (side.dim_value for side in model.graph.input[0].type.tensor_type.shape.dim)
    values = np.resize(np.arange(256, dtype=np.uint8), (1, height, width))
    pixels = np.stack([values, values[:, ::-1], values[:, :, ::-1]], axis=-1)
    steps = ModelProto()
    steps.CopyFrom(model)
    del steps.graph.output[:]
    steps.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.UINT8, None) for name in names)
    return OnnxModel(steps.SerializeToString()).run(pixels)


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
