"""Ranges of int8 weights whose products all CPUs add exactly.

CPUs without VNNI multiply two neighbouring activations (0 to 255) by their weights, and add both products in
16 bits (Intel's instruction `vpmaddubsw`). If neighbours of one sign have a sum of at most 128, this cannot
overflow: 255 x 128 < 2^15. So the range of each output channel reaches not only to its largest weight, but to
the largest sum of neighbours. That costs a fifth of the precision on average; weights of 7 bits cost half.
"""

from collections.abc import Collection, Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper


def weight_ranges(model: ModelProto, float_nodes: Collection[str] = ()) -> dict[str, list[dict[str, Any]]]:
    """Return the range of each output channel of each weight, as ONNX Runtime's `TensorQuantOverrides`.

    ONNX Runtime adds the products of depthwise convolutions in 32 bits, so those keep their ranges.

    Args:
        model: a float32 model.
        float_nodes: names of the nodes that stay float32.
    """
    constants = {constant.name: numpy_helper.to_array(constant) for constant in model.graph.initializer}
    ranges: dict[str, list[dict[str, Any]]] = {}
    for node in model.graph.node:
        if node.op_type not in ("Conv", "Gemm") or node.name in float_nodes or node.input[1] not in constants:
            continue
        weights, attributes = constants[node.input[1]], _attributes(node)
        if 1 < attributes.get("group", 1) == weights.shape[0]:
            continue  # depthwise
        axis = 1 if node.op_type == "Gemm" and not attributes.get("transB") else 0
        most = largest_sums(np.moveaxis(weights, axis, 0))
        ranges[node.input[1]] = [{"axis": axis, "rmin": -edge, "rmax": edge} for edge in most]
    return ranges


def largest_sums(weights: NDArray[Any]) -> NDArray[Any]:
    """Return the largest sum of two neighbours of one sign, [outputs], for weights [outputs, inputs, ...].

    Neighbours are those of any order in which a convolution may read its inputs: with channels last, with
    channels last and an odd number of them padded, with channels first.
    """
    sums = [np.maximum(sign * pairs, 0).sum(-1).max(-1) for pairs in _neighbours(weights) for sign in (1, -1)]
    most: NDArray[Any] = np.max(sums, axis=0)
    return most


def _attributes(node: NodeProto) -> dict[str, Any]:
    return {attribute.name: helper.get_attribute_value(attribute) for attribute in node.attribute}


def _neighbours(weights: NDArray[Any]) -> Iterator[NDArray[Any]]:
    """Yield the weights in pairs, [outputs, pairs, 2], in each order."""
    channels_last = np.moveaxis(weights, 1, -1)
    for ordered in (channels_last, _even(channels_last), weights):
        flat = _even(ordered.reshape(len(ordered), -1))
        yield flat.reshape(len(flat), -1, 2)


def _even(weights: NDArray[Any]) -> NDArray[Any]:
    """Append a zero to the last axis if its length is odd."""
    return np.pad(weights, [(0, 0)] * (weights.ndim - 1) + [(0, weights.shape[-1] % 2)])
