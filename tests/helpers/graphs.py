"""An ONNX model that answers more than the colour: its OOD score and where the evidence is."""

from pathlib import Path

import numpy as np
import onnx
from onnx import TensorProto, helper

from ml.model import bundle
from ml.model.manifest import Manifest
from tests.conftest import SIZE, colour_graph, manifest

GREEN = (70, 200, 70)  # neither red nor blue: known is near 0
KNOWN = {"method": "concepts", "threshold": 0.5}
_GRID = 4

# What becomes of the difference between red and blue, which is 0 for black.
_SCORES = {
    "score": ["Abs", "Clip"],
    "beyond": [],  # more than 1 for red, less than 0 for blue
    "root": ["Sqrt"],  # no number for blue
    "log": ["Log"],  # not even finite for black
}


def telling_graph(
    size: int = SIZE, outputs: int = 2, known: str = "score", evidence: bool = True, components: int = 0
) -> bytes:
    """`colour_graph` with `known`, how far red is from blue, and `evidence`, how red and blue a place is.

    Each of the `components` is how much more red than blue a photo is, -2 to 2.
    """
    model = onnx.load_from_string(colour_graph(size, outputs))
    graph = model.graph
    constants = {
        "difference": np.array([1, 0, -1], np.float32) / 100,
        "zero": np.float32(0),
        "one": np.float32(1),
    }
    if known:
        steps = ["MatMul", *_SCORES[known]]
        names = ["rgb", *(f"known {number}" for number in range(len(steps) - 1)), "known"]
        for number, kind in enumerate(steps):
            more = {"MatMul": ["difference"], "Clip": ["zero", "one"]}.get(kind, [])
            graph.node.append(helper.make_node(kind, [names[number], *more], [names[number + 1]]))
        graph.output.append(helper.make_tensor_value_info("known", TensorProto.FLOAT, ["N"]))
    if components:
        constants["directions"] = np.repeat(np.array([[1], [0], [-1]], np.float32) / 100, components, 1)
        graph.node.append(helper.make_node("MatMul", ["rgb", "directions"], ["components"]))
        shape: list[str | int] = ["N", components]
        graph.output.append(helper.make_tensor_value_info("components", TensorProto.FLOAT, shape))
    if evidence:
        side = size // _GRID
        constants["kernels"] = _array(graph, "weights").T[:, :, None, None].copy()
        graph.node.extend(
            [
                helper.make_node("Transpose", ["float"], ["planes"], perm=[0, 3, 1, 2]),
                helper.make_node(
                    "AveragePool", ["planes"], ["cells"], kernel_shape=[side] * 2, strides=[side] * 2
                ),
                helper.make_node("Conv", ["cells", "kernels"], ["evidence"]),
            ]
        )
        shape = ["N", outputs, _GRID, _GRID]
        graph.output.append(helper.make_tensor_value_info("evidence", TensorProto.FLOAT, shape))
    graph.initializer.extend(onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in constants.items())
    return model.SerializeToString()


def write_telling(path: Path, card: str = "", **changes: object) -> Path:
    """A model.pt with such an ONNX model and no weights."""
    described = Manifest.from_dict(manifest(known=KNOWN, **changes))
    bundle.write(path, described, {}, telling_graph(outputs=len(described.classes)), card=card)
    return path


def _array(graph: onnx.GraphProto, name: str) -> np.ndarray:
    return next(onnx.numpy_helper.to_array(tensor) for tensor in graph.initializer if tensor.name == name)
