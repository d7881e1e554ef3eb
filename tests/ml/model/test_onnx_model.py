"""ONNX Runtime's settings."""

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from ml.model.errors import BundleError
from ml.model.onnx_model import open_session

CHANNELS = 64
LARGEST = 255 * 127 * CHANNELS
"""The sum of the largest products of an activation and a weight."""


def test_large_int8_products_do_not_overflow_on_any_cpu():
    """CPUs without VNNI add two of them in 16 bits, unless ONNX Runtime is told not to."""
    nodes = [
        helper.make_node("DequantizeLinear", ["image", "one", "zero"], ["x"]),
        helper.make_node("DequantizeLinear", ["weights", "one", "signed_zero"], ["w"]),
        helper.make_node("Conv", ["x", "w"], ["sum"]),
        helper.make_node("QuantizeLinear", ["sum", "step", "zero"], ["y"]),
    ]
    constants = {
        "one": np.float32(1),
        "zero": np.uint8(0),
        "signed_zero": np.int8(0),
        "step": np.float32(LARGEST / 200),
        "weights": np.full((8, CHANNELS, 1, 1), 127, np.int8),
    }
    graph = helper.make_graph(
        nodes,
        "sum",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [1, CHANNELS, 4, 4])],
        [helper.make_tensor_value_info("y", TensorProto.UINT8, [1, 8, 4, 4])],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    session = open_session(model.SerializeToString(), 1)
    (answer,) = session.run(None, {"image": np.full((1, CHANNELS, 4, 4), 255, np.uint8)})
    assert (np.asarray(answer) == 200).all()


@pytest.mark.parametrize("place", ["initializer", "constant", "branch"])
def test_no_file_beside_the_model_is_read(
    place: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """ONNX Runtime reads weights from the current folder if a model says so, and a client could get them."""
    monkeypatch.chdir(tmp_path)
    Path(".env").write_text("API_KEYS=secret")
    outside = TensorProto(
        name="w", data_type=TensorProto.UINT8, dims=[15], data_location=TensorProto.EXTERNAL
    )
    outside.external_data.add(key="location", value=".env")
    output = helper.make_tensor_value_info("y", TensorProto.UINT8, [15])
    constant = helper.make_node("Constant", [], ["y"], value=outside)
    if place == "initializer":
        graph = helper.make_graph([helper.make_node("Identity", ["w"], ["y"])], "g", [], [output], [outside])
    elif place == "constant":
        graph = helper.make_graph([constant], "g", [], [output])
    else:
        branch = helper.make_graph([constant], "branch", [], [output])
        node = helper.make_node("If", ["yes"], ["y"], then_branch=branch, else_branch=branch)
        yes = numpy_helper.from_array(np.array(True), "yes")
        graph = helper.make_graph([node], "g", [], [output], [yes])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    with pytest.raises(BundleError, match="cannot be loaded"):
        open_session(model.SerializeToString(), 1)
