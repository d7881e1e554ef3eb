"""ONNX models that go wrong: at once, for some photos only, or while they are loaded."""

import numpy as np
import onnx
from onnx import TensorProto, helper

from tests.conftest import colour_graph

BRIGHT, DIM_BLUE = (250, 60, 60), (60, 60, 140)
"""Colours of photos for which `wrong_for_bright` goes wrong, and works."""
_LIMIT = 180.0


def wrong_for_bright(kind: str, limit: float = _LIMIT) -> bytes:
    """`colour_graph`, but if the mean of a channel is over the limit: `nan`, `negative` or `endless`."""
    model = onnx.load_from_string(colour_graph())
    graph, softmax = model.graph, model.graph.node.pop()
    constants = {"limit": np.float32(limit), "one": np.array([1], np.int64), "nothing": np.float32(0)}
    graph.node.append(helper.make_node("ReduceMax", ["rgb", "one"], ["brightest"], keepdims=1))
    softmax.input[0] = "changed logits"
    match kind:
        case "nan":
            _chain(graph, "brightest", ("Sub", "limit", 1), ("Sqrt",), ("Mul", "nothing"), to="change")
            graph.node.append(helper.make_node("Add", ["logits", "change"], ["changed logits"]))
            graph.node.append(softmax)
        case "negative":
            softmax.input[0], softmax.output[0] = "logits", "sound"
            constants |= {"half": np.array([[0.5, -0.5]], np.float32)}
            _chain(graph, "brightest", ("Sub", "limit"), ("Relu",), ("Mul", "half"), to="change")
            graph.node.append(softmax)
            graph.node.append(helper.make_node("Add", ["sound", "change"], ["probabilities"]))
        case "endless":
            constants |= {"without end": np.array(2**62, np.int64), "yes": np.array(True)}
            _chain(graph, "brightest", ("ReduceMax",), ("Greater", "limit"), to="too bright", keepdims=0)
            cast = helper.make_node("Cast", ["too bright"], ["factor"], to=TensorProto.INT64)
            turns = helper.make_node("Mul", ["factor", "without end"], ["turns"])
            loop = helper.make_node("Loop", ["turns", "yes", "nothing"], ["change"], body=_count())
            graph.node.extend([cast, turns, loop])
            graph.node.append(helper.make_node("Add", ["logits", "change"], ["changed logits"]))
            graph.node.append(softmax)
    graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    return model.SerializeToString()


def slow_to_load(side: int = 3000, products: int = 400) -> bytes:
    """A model of a few kilobytes with constants that take minutes to compute, which is done at load."""
    model = onnx.load_from_string(colour_graph())
    graph, softmax = model.graph, model.graph.node.pop()
    graph.node.append(helper.make_node("ConstantOfShape", ["shape"], ["product 0"]))
    for number in range(products):
        inputs = [f"product {number}", "product 0"]
        graph.node.append(helper.make_node("MatMul", inputs, [f"product {number + 1}"]))
    graph.node.append(helper.make_node("ReduceMax", [f"product {products}"], ["change"], keepdims=0))
    graph.node.append(helper.make_node("Add", ["logits", "change"], ["changed logits"]))
    softmax.input[0] = "changed logits"
    graph.node.append(softmax)
    graph.initializer.append(onnx.numpy_helper.from_array(np.array([side, side], np.int64), "shape"))
    return model.SerializeToString()


def _chain(graph: onnx.GraphProto, source: str, *steps: tuple, to: str, **attributes: int) -> None:
    """Append nodes in a row. A step is a kind and its other input; if 1 follows, that is the first one."""
    for number, (kind, *more) in enumerate(steps):
        inputs = [source, *(name for name in more if isinstance(name, str))]
        if 1 in more:
            inputs.reverse()
        target = to if number == len(steps) - 1 else f"{to} {number}"
        used = attributes if kind == "ReduceMax" else {}
        graph.node.append(helper.make_node(kind, inputs, [target], **used))
        source = target


def _count() -> onnx.GraphProto:
    """The body of a loop: add 1 and go on."""
    scalar = [
        helper.make_tensor_value_info(name, kind, [])
        for name, kind in (
            ("turn", TensorProto.INT64),
            ("go on", TensorProto.BOOL),
            ("sum", TensorProto.FLOAT),
        )
    ]
    results = [
        helper.make_tensor_value_info("further", TensorProto.BOOL, []),
        helper.make_tensor_value_info("next sum", TensorProto.FLOAT, []),
    ]
    nodes = [
        helper.make_node("Identity", ["go on"], ["further"]),
        helper.make_node("Add", ["sum", "step"], ["next sum"]),
    ]
    step = onnx.numpy_helper.from_array(np.float32(1), "step")
    return helper.make_graph(nodes, "count", scalar, results, [step])
