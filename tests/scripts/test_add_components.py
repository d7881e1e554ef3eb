"""The output `components` in ONNX models that were packaged without it."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from ml.model.errors import PipelineError
from ml.model.onnx_model import open_session
from ml.model.reference import COMPONENTS
from scripts.add_components import add_output

WIDTH = 6
WEIGHT = np.random.default_rng(0).normal(size=(3, WIDTH)).astype(np.float32)


def graph(layers: int, int8: bool) -> bytes:
    """A model whose score is the sum of an OOD score's coordinates."""
    constants = {"known.narrow.weight": WEIGHT, "scale": np.float32(0.5), "zero": np.uint8(128)}
    nodes = [
        helper.make_node("Gemm", ["features", "known.narrow.weight"], [f"narrow {number}"])
        for number in range(layers)
    ]
    last = "narrow 0"
    if int8:
        nodes.append(helper.make_node("QuantizeLinear", [last, "scale", "zero"], ["quantized"]))
        nodes.append(helper.make_node("DequantizeLinear", ["quantized", "scale", "zero"], ["restored"]))
        last = "restored"
    nodes.append(helper.make_node("ReduceSum", [last], ["known"], keepdims=1))
    made = helper.make_graph(
        nodes,
        "score",
        [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["N", 3])],
        [helper.make_tensor_value_info("known", TensorProto.FLOAT, None)],
        [onnx.numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()


@pytest.mark.parametrize("int8", [False, True])
def test_the_components_are_the_first_coordinates_of_the_score(int8: bool) -> None:
    model, features = graph(1, int8), np.array([[1, 2, 3], [0, -1, 1]], np.float32)
    sessions = [open_session(one) for one in (model, add_output(model))]
    before, after = (session.run(None, {"features": features}) for session in sessions)
    assert np.array_equal(before[0], after[0])
    exact = (features @ WEIGHT)[:, :COMPONENTS]
    assert after[1].shape == (2, COMPONENTS)
    np.testing.assert_allclose(after[1], np.round(exact * 2) / 2 if int8 else exact, rtol=1e-6)


def test_other_models_are_rejected() -> None:
    for model in (graph(2, False), add_output(graph(1, False))):
        with pytest.raises(PipelineError, match="components already, or no OOD score"):
            add_output(model)
