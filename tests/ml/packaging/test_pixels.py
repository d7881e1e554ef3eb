"""Pixels that an int8 model takes as they are."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ml.model.onnx_model import OnnxModel
from ml.packaging.conditional import run_if_unsure
from ml.packaging.pixels import feed_pixels

SIZE = 16


CONSTANTS = {
    "mean": np.full(3, 127, np.float32),
    "std": np.full(3, 128, np.float32),
    "scale": np.array(1 / 128, np.float32),
    "zero": np.array(127, np.uint8),
    "axes": np.array([2, 3], np.int64),
}
NORMALIZATION = [
    helper.make_node("Cast", ["image"], ["float"], to=TensorProto.FLOAT),
    helper.make_node("Sub", ["float", "mean"], ["centred"]),
    helper.make_node("Div", ["centred", "std"], ["normal"]),
    helper.make_node("Transpose", ["normal"], ["photos"], perm=[0, 3, 1, 2]),
]


def quantized_mean(photos: str, mean: str) -> list[onnx.NodeProto]:
    """The nodes from photos to their mean colours, as the quantizer makes them."""
    return [
        helper.make_node("QuantizeLinear", [photos, "scale", "zero"], [f"{photos}.int8"]),
        helper.make_node("DequantizeLinear", [f"{photos}.int8", "scale", "zero"], [f"{photos}.again"]),
        helper.make_node("ReduceMean", [f"{photos}.again", "axes"], [mean], keepdims=0),
    ]


def serialized(nodes: list[onnx.NodeProto], constants: dict[str, np.ndarray]) -> bytes:
    """A model from `image` to `probabilities`, 3 for each photo."""
    graph = helper.make_graph(
        nodes,
        "int8",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, 3])],
        [helper.make_tensor_value_info("probabilities", TensorProto.FLOAT, ["M", 3])],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    made = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    return bytes(made.SerializeToString())


def model(mean: tuple[float, ...], std: tuple[float, ...], scale: float, zero_point: int) -> bytes:
    """An int8 model; `mean` and `std` of the pixels, from 0 to 255, per channel."""
    constants = CONSTANTS | {
        "mean": np.array(mean, np.float32),
        "std": np.array(std, np.float32),
        "scale": np.array(scale, np.float32),
        "zero": np.array(zero_point, np.uint8),
    }
    return serialized([*NORMALIZATION, *quantized_mean("photos", "probabilities")], constants)


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
    nodes = [
        *NORMALIZATION,
        helper.make_node("Shape", ["photos"], ["photos.shape"], end=2),
        helper.make_node("Concat", ["photos.shape", "size"], ["sizes"], axis=0),
        helper.make_node("Resize", ["photos", "", "", "sizes"], ["small"], mode="linear"),
        helper.make_node("GatherND", ["photos", "chosen"], ["some"]),
        *quantized_mean("small", "small.mean"),
        *quantized_mean("some", "some.mean"),
        helper.make_node("Concat", ["small.mean", "some.mean"], ["probabilities"], axis=0),
    ]
    more = {"size": np.array([12, 12], np.int64), "chosen": np.array([[-1], [0]], np.int64)}
    return serialized(nodes, CONSTANTS | more)


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


def test_a_model_with_one_look_needs_no_branch() -> None:
    one_look = model((127,), (128,), 1 / 128, 127)
    assert run_if_unsure(one_look) == one_look


def test_photos_that_something_else_takes_too_stay_normalized() -> None:
    model = onnx.load_from_string(two_looks())
    model.graph.node.append(helper.make_node("Neg", ["photos"], ["negative"]))
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
