"""A graph that isn't what its description says is refused at load."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

from app import engine
from ml.bundle import BundleError
from tests.conftest import SIZE, colour_graph


def no_softmax() -> bytes:
    model = onnx.load_from_string(colour_graph())
    model.graph.node.pop()
    model.graph.node[-1].output[0] = "probabilities"
    return model.SerializeToString()


def graph(source="image", target="probabilities", kind=TensorProto.FLOAT, rows="N") -> bytes:
    """A graph that ignores its input and answers one constant row."""
    constant = helper.make_tensor("value", kind, (1, 2), [0, 0])
    made = helper.make_graph(
        [helper.make_node("Constant", [], [target], value=constant)],
        "constant",
        [helper.make_tensor_value_info(source, TensorProto.UINT8, [rows, SIZE, SIZE, 3])],
        [helper.make_tensor_value_info(target, kind, ["N", 2])],
    )
    model = helper.make_model(made, opset_imports=[helper.make_opsetid("", 18)], ir_version=9)
    return model.SerializeToString()


def test_predicts_batches_of_any_size(make_model):
    loaded = engine.load(make_model(), "auto", 1)
    images = np.zeros((5, SIZE, SIZE, 3), np.uint8)
    images[1::2, ..., 2] = 255
    images[::2, ..., 0] = 255
    answer = loaded.predict(images)
    assert answer.dtype == np.float32
    assert answer.argmax(1).tolist() == [0, 1, 0, 1, 0]
    np.testing.assert_allclose(answer.sum(1), 1, atol=1e-6)
    assert loaded.name == "onnx"
    assert loaded.manifest.version == "test-1"


@pytest.mark.parametrize(
    ("twin", "message"),
    [
        (b"nonsense", "can't be loaded"),
        (graph(source="x"), "inputs \\['x'\\]"),
        (graph(target="y"), "outputs \\['y'\\]"),
        (graph(kind=TensorProto.INT32), "tensor\\(int32\\)"),
        (graph(rows=1), "has image"),
        (graph(), "has probabilities"),
        (no_softmax(), "answers no probabilities"),
        (colour_graph(size=SIZE * 2), "has image"),
        (colour_graph(outputs=3), "has probabilities"),
    ],
)
def test_refuses(make_model, twin, message):
    with pytest.raises(BundleError, match=message) as caught:
        engine.load(make_model(graph=twin), "onnx", 1)
    assert "\n" not in str(caught.value)


def test_says_that_there_is_no_torch_engine_yet(make_model):
    with pytest.raises(BundleError, match="no torch engine"):
        engine.load(make_model(), "torch", 1)
