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


def two_looks() -> bytes:
    """An int8 model of which one part sees all photos made smaller, and another part only two photos."""
    constants = {
        "mean": np.full(3, 127, np.float32),
        "std": np.full(3, 128, np.float32),
        "scale": np.array(1 / 128, np.float32),
        "zero": np.array(127, np.uint8),
        "axes": np.array([2, 3], np.int64),
        "size": np.array([12, 12], np.int64),
        "chosen": np.array([[-1], [0]], np.int64),
    }
    nodes = [
        helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
        helper.make_node("Sub", ["float", "mean"], ["centred"]),
        helper.make_node("Div", ["centred", "std"], ["normal"]),
        helper.make_node("Transpose", ["normal"], ["all"], perm=[0, 3, 1, 2]),
        helper.make_node("Shape", ["all"], ["first.sizes"], end=2),
        helper.make_node("Concat", ["first.sizes", "size"], ["sizes"], axis=0),
        helper.make_node("Resize", ["all", "", "", "sizes"], ["small"], mode="linear"),
        helper.make_node("GatherND", ["all", "chosen"], ["some"]),
    ]
    for name in ("small", "some"):
        nodes += [
            helper.make_node("QuantizeLinear", [name, "scale", "zero"], [f"{name}.int8"]),
            helper.make_node("DequantizeLinear", [f"{name}.int8", "scale", "zero"], [f"{name}.again"]),
            helper.make_node("ReduceMean", [f"{name}.again", "axes"], [f"{name}.mean"], keepdims=0),
        ]
    nodes.append(helper.make_node("Concat", ["small.mean", "some.mean"], ["probabilities"], axis=0))
    graph = helper.make_graph(
        nodes,
        "int8",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["M", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(made.SerializeToString())


def test_both_networks_of_two_looks_are_fed_pixels() -> None:
    before = two_looks()
    after = feed_pixels(before)
    kinds = [node.op_type for node in onnx.load_from_string(after).graph.node]
    assert not {"Sub", "Div"} & set(kinds)
    assert kinds.count("QuantizeLinear") == 1  # of the smaller photos, whose values are no whole numbers
    images = np.random.default_rng(1).integers(0, 256, (3, SIZE, SIZE, 3), np.uint8)
    answers = [OnnxModel(each).run(images)["probabilities"] for each in (before, after)]
    assert answers[0].shape == (5, 3)
    np.testing.assert_allclose(answers[0][:3], answers[1][:3], atol=0.5 / 128)
    np.testing.assert_array_equal(answers[0][3:], answers[1][3:])


def test_photos_that_something_else_takes_too_stay_normalized() -> None:
    model = onnx.load_from_string(two_looks())
    model.graph.node.append(helper.make_node("Neg", ["all"], ["negative"]))
    changed = model.SerializeToString()
    assert feed_pixels(changed) == changed


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
