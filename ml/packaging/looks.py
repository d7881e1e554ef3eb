"""Two looks: an ONNX model that sees a photo made smaller, and once more in full size only if it isn't sure.

Most photos are easy. Looking at them in fewer pixels is cheaper, which pays for more pixels where they are
needed (Yang et al. 2020, "Resolution Adaptive Networks for Efficient Inference"). Both looks use the same
weights, since the network learned both sizes.
"""

import copy
import dataclasses
import itertools
from collections.abc import Mapping
from typing import TYPE_CHECKING, Self

import numpy as np
from numpy.typing import NDArray

from ml.data.dataset import Dataset
from ml.evaluation.metrics import Floats, Labels, log_losses
from ml.model.decision import is_unknown
from ml.model.onnx_model import EXPLAIN, Images, open_session
from ml.packaging.export import OPSET
from ml.params import Evaluate

if TYPE_CHECKING:
    from onnx import GraphProto, NodeProto, TensorProto

Outputs = Mapping[str, Floats]
"""Outputs of an ONNX model by name, `probabilities` [N, classes] and `known` [N]."""

_PROBABILITIES, _KNOWN = (0.95, 0.97, 0.98, 0.99, 0.995), (0.5, 0.8, 0.9, 0.95)
_IR_VERSION = 10
_LARGEST_COST = 2 / 3  # of one look in full size; if less is saved, the second look is not worth its code

_BEFORE = """
before (uint8[N,S,S,3] image) => (uint8[N,R,R,3] first_image) {
  first_image = Resize <mode="linear", axes=[1,2]> (image, , , first_size)
}"""
_BETWEEN = """
between (float[N,C] first_probabilities, float[N] first_known) => (bool any_again) {
  largest = ReduceMax <keepdims=0> (first_probabilities, axis_1)
  improbable = Less (largest, sure_probability)
  unfamiliar = Less (first_known, sure_known)
  unsure = Or (improbable, unfamiliar)
  again = Or (unsure, explain)
  again_number = Cast <to=6> (again)
  again_largest = ReduceMax <keepdims=0> (again_number)
  any_again = Cast <to=9> (again_largest)
  unsure_column = Unsqueeze (unsure, axis_1)
  shape = Shape (first_probabilities)
  count = Slice (shape, axis_0, axis_1, axis_0)
  evidence_shape = Concat <axis=0> (count, one_evidence_shape)
  no_evidence = Expand (zero, evidence_shape)
}"""
_SECOND = """
second () => (float[N,C] new_probabilities, float[N] new_known, float[N,C,H,W] new_evidence) {
  places = NonZero (again)
  rows = Transpose <perm=[1,0]> (places)
  full_image = GatherND (image, rows)
  all_probabilities = ScatterND (first_probabilities, rows, full_probabilities)
  all_known = ScatterND (first_known, rows, full_known)
  new_probabilities = Where (unsure_column, all_probabilities, first_probabilities)
  new_known = Where (unsure, all_known, first_known)
  new_evidence = ScatterND (no_evidence, rows, full_evidence)
}"""
_NO_SECOND = """
no_second () => (float[N,C] old_probabilities, float[N] old_known, float[N,C,H,W] old_evidence) {
  old_probabilities = Identity (first_probabilities)
  old_known = Identity (first_known)
  old_evidence = Identity (no_evidence)
}"""


@dataclasses.dataclass(frozen=True)
class Sure:
    """When the first look suffices.

    Attributes:
        probability: that of the likeliest class is at least this, and
        known: so is the OOD score.
        share: of the validation photos that are looked at again.
    """

    probability: float
    known: float
    share: float

    @classmethod
    def choose(
        cls, params: Evaluate, sizes: tuple[int, int], first: Outputs, full: Outputs, labels: Labels
    ) -> Self | None:
        """Choose what saves most of the pixels without worse answers to the validation photos.

        Args:
            params: `min_change` is the difference of log loss that counts as none.
            sizes: height and width of a photo in the first and in the second look.
            first: outputs of the first look at all photos.
            full: the same of the second look.
            labels: true classes of the photos, [N].

        Returns:
            None if nothing saves enough.
        """
        best, least_cost = None, _LARGEST_COST
        limit = (1 + params.min_change) * log_losses(full["probabilities"], labels).mean()
        hits = _hits(full["probabilities"], labels)
        unknown = is_unknown(full["known"]).sum()
        for probability, known in itertools.product(_PROBABILITIES, _KNOWN):
            unsure = (first["probabilities"].max(1) < probability) | (first["known"] < known)
            probabilities = np.where(unsure[:, None], full["probabilities"], first["probabilities"])
            cost = (sizes[0] / sizes[1]) ** 2 + unsure.mean()
            if (
                cost < least_cost
                and _hits(probabilities, labels) >= hits
                and log_losses(probabilities, labels).mean() <= limit
                and is_unknown(np.where(unsure, full["known"], first["known"])).sum() <= unknown
            ):
                best, least_cost = cls(probability, known, float(unsure.mean())), cost
        return best


class _Smaller:
    """Photos that are made smaller when they are indexed, by the operator that the first look uses."""

    def __init__(self, images: Images, size: int) -> None:
        import onnx

        graph = onnx.parser.parse_graph(_BEFORE)
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([size, size]), "first_size"))
        opset = onnx.helper.make_opsetid("", OPSET)
        model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=_IR_VERSION)
        self._images, self._session = images, open_session(model.SerializeToString())

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, rows: int | NDArray[np.int64], /) -> NDArray[np.uint8]:
        images = self._images[np.atleast_1d(np.asarray(rows))]
        smaller = np.asarray(self._session.run(None, {"image": np.ascontiguousarray(images)})[0])
        return smaller if isinstance(rows, np.ndarray) else np.asarray(smaller[0])


def at_size(data: Dataset, size: int) -> Dataset:
    """Return the data set with photos of this height and width, which is at most theirs."""
    if size == data.image_size:
        return data
    return dataclasses.replace(data, image_size=size, images=_Smaller(data.images, size))


def combine(first: bytes, full: bytes, sure: Sure) -> bytes:
    """Return one ONNX model that takes two looks.

    It has one input more, `explain`, which is true unless a run sets it: whether the evidence is needed. The
    evidence is always that of the second look; without `explain`, it is 0 for photos that are not looked at
    again. Answers do not depend on `explain`, nor on the other photos of a run.

    Args:
        first: an ONNX model for smaller photos, with the outputs `probabilities`, `known` and `evidence`.
        full: the same for photos of full size.
        sure: when the first look suffices.
    """
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    small, large = onnx.load_from_string(first), onnx.load_from_string(full)
    size = small.graph.input[0].type.tensor_type.shape.dim[1].dim_value
    evidence = next(output for output in large.graph.output if output.name == "evidence")
    constants = {
        "first_size": np.array([size, size]),
        "axis_0": np.array([0]),
        "axis_1": np.array([1]),
        "sure_probability": np.float32(sure.probability),
        "sure_known": np.float32(sure.known),
        "one_evidence_shape": np.array([dim.dim_value for dim in evidence.type.tensor_type.shape.dim[1:]]),
        "zero": np.float32(0),
        EXPLAIN: np.array(True),
    }
    weights = _shared_weights({"full_": large.graph, "first_": small.graph})
    second = onnx.parser.parse_graph(_SECOND)
    before, after = list(second.node[:3]), list(second.node[3:])
    del second.node[:]
    second.node.extend([*before, *_renamed(large.graph, "full_", weights), *after])
    again = helper.make_node(
        "If",
        ["any_again"],
        ["probabilities", "known", "evidence"],
        then_branch=second,
        else_branch=onnx.parser.parse_graph(_NO_SECOND),
    )
    graph = helper.make_graph(
        [
            *onnx.parser.parse_graph(_BEFORE).node,
            *_renamed(_without_evidence(small.graph), "first_", weights),
            *onnx.parser.parse_graph(_BETWEEN).node,
            again,
        ],
        "two_looks",
        [*large.graph.input, helper.make_tensor_value_info(EXPLAIN, TensorProto.BOOL, [])],
        list(large.graph.output),
        [
            *weights.values(),
            *(numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()),
        ],
    )
    model = helper.make_model(graph, opset_imports=large.opset_import, ir_version=large.ir_version)
    onnx.checker.check_model(model)
    return bytes(model.SerializeToString())


def _hits(probabilities: Floats, labels: Labels) -> int:
    return int((probabilities.argmax(1) == labels).sum())


def _shared_weights(graphs: "Mapping[str, GraphProto]") -> "dict[tuple[object, ...], TensorProto]":
    """Return the different weights of graphs by content, with the prefix of the first graph that has them."""
    weights: dict[tuple[object, ...], TensorProto] = {}
    for prefix, graph in graphs.items():
        for one in graph.initializer:
            if (content := _content(one)) not in weights:
                weights[content] = copy.deepcopy(one)
                weights[content].name = prefix + one.name
    return weights


def _content(weight: "TensorProto") -> tuple[object, ...]:
    from onnx import numpy_helper

    return weight.data_type, tuple(weight.dims), numpy_helper.to_array(weight).tobytes()


def _without_evidence(graph: "GraphProto") -> "GraphProto":
    """Return the graph without the nodes that only the evidence needs."""
    producers = {output: node for node in graph.node for output in node.output}
    needed, values = set(), ["probabilities", "known"]
    while values:
        if (value := values.pop()) in producers and value not in needed:
            needed.update(producers[value].output)
            values.extend(producers[value].input)
    fewer = copy.deepcopy(graph)
    del fewer.node[:]
    fewer.node.extend(node for node in graph.node if needed & set(node.output))
    return fewer


def _renamed(
    graph: "GraphProto", prefix: str, weights: "Mapping[tuple[object, ...], TensorProto]"
) -> "list[NodeProto]":
    """Return the nodes of a graph, with `prefix` before every name but those of its weights."""
    names = {one.name: weights[_content(one)].name for one in graph.initializer}
    nodes = []
    for node in map(copy.deepcopy, graph.node):
        node.name = prefix + node.name
        for values in (node.input, node.output):
            values[:] = [names.get(value, prefix + value) if value else "" for value in values]
        nodes.append(node)
    return nodes
