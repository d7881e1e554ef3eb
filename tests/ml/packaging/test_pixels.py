"""Pixels that an int8 model takes as they are."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ml.model.onnx_model import OnnxModel
from ml.packaging.pixels import feed_pixels

SIZE = 16


def model(mean: tuple[float, ...], std: tuple[float, ...], scale: float, zero_point: int) -> bytes:
    """An int8 model as the quantizer makes it; `mean` and `std` of the pixels, from 0 to 255, per channel."""
    constants = {
        "mean": np.array(mean, np.float32),
        "std": np.array(std, np.float32),
        "scale": np.array(scale, np.float32),
        "zero": np.array(zero_point, np.uint8),
        "axes": np.array([2, 3], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normal"]),
        helper.make_node("Transpose", ["normal"], ["first"], perm=[0, 3, 1, 2]),
        helper.make_node("QuantizeLinear", ["first", "scale", "zero"], ["int8"]),
        helper.make_node("DequantizeLinear", ["int8", "scale", "zero"], ["again"]),
        helper.make_node("ReduceMean", ["again", "axes"], ["probabilities"], keepdims=0),
    ]
    graph = helper.make_graph(
        nodes,
        "int8",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return bytes(made.SerializeToString())


def test_pixels_that_come_back_are_fed_as_they_are() -> None:
    before = model((127,), (128,), 1 / 128, 127)
    after = feed_pixels(before)
    graph = onnx.load_from_string(after).graph
    assert [node.op_type for node in graph.node] == ["Transpose", "DequantizeLinear", "ReduceMean"]
    assert {constant.name for constant in graph.initializer} == {"scale", "zero", "axes"}
    images = np.random.default_rng(1).integers(0, 256, (4, SIZE, SIZE, 3), np.uint8)
    answers = [OnnxModel(each).run(images)["probabilities"] for each in (before, after)]
    np.testing.assert_array_equal(*answers)


@pytest.mark.parametrize(
    "changed",
    [
        model((127,), (128,), 1 / 127, 127),  # no calibration photo had a white pixel
        model((127,), (128,), 1 / 128, 126),
        model((127, 127, 126), (128,), 1 / 128, 127),
        model((127,), (128, 128, 127), 1 / 128, 127),
    ],
)
def test_a_normalization_that_changes_a_value_stays(changed: bytes) -> None:
    assert feed_pixels(changed) == changed


def test_a_model_that_is_not_quantized_stays() -> None:
    graph = helper.make_graph(
        [
            helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
            helper.make_node("Flatten", ["float"], ["probabilities"]),
        ],
        "float32",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["N", 3 * SIZE * SIZE])],
    )
    unchanged = helper.make_model(graph).SerializeToString()
    assert feed_pixels(unchanged) == unchanged
