"""Runs the second of two networks only if a photo needs it, see `ml.model.two_looks`.

The quantizer doesn't look into the branches of an `If`, so the graph gets one after it. Without, the second
network would run on no photos most of the time, which takes 7 % of the first one's time.
"""

from collections import defaultdict
from collections.abc import Sequence, Set
from typing import cast

from onnx import NodeProto, TensorProto, ValueInfoProto, helper, load_from_string


def run_if_unsure(onnx: bytes) -> bytes:
    """Move all that happens to unsure photos, from `NonZero` to `ScatterND`, into the branch of an `If`.

    Returns:
        The serialized model, or the same one if it looks once at each photo.
    """
    model = load_from_string(onnx)
    nodes, graph = list(model.graph.node), model.graph
    by_kind = {node.op_type: node for node in nodes}
    if not {"NonZero", "ScatterND"} <= by_kind.keys():
        return onnx
    first, last = by_kind["NonZero"], by_kind["ScatterND"]
    unsure, sure_answers, answers = first.input[0], last.input[0], last.output[0]
    inside = _between(nodes, first, last, {unsure, sure_answers, *(output.name for output in graph.output)})
    moved = [node for number, node in enumerate(nodes) if number in inside]
    kept = [node for number, node in enumerate(nodes) if number not in inside]
    shared = {name for node in kept for name in node.input}
    constants = [constant for constant in graph.initializer if constant.name not in shared]
    then = helper.make_graph(moved, "then", [], [_answers(answers)], constants)
    same = helper.make_node("Identity", [sure_answers], ["sure.answers"])
    otherwise = helper.make_graph([same], "otherwise", [], [_answers("sure.answers")])
    place = next(number for number, node in enumerate(kept) if answers in node.input)
    kept[place:place] = [
        helper.make_node("Cast", [unsure], ["unsure.number"], to=TensorProto.INT32),
        helper.make_node("ReduceMax", ["unsure.number"], ["unsure.most"], keepdims=0),
        helper.make_node("Cast", ["unsure.most"], ["unsure.any"], to=TensorProto.BOOL),
        helper.make_node("If", ["unsure.any"], [answers], then_branch=then, else_branch=otherwise),
    ]
    constants = [constant for constant in graph.initializer if constant.name in shared]
    graph.CopyFrom(helper.make_graph(kept, graph.name, list(graph.input), list(graph.output), constants))
    return cast(bytes, model.SerializeToString())


def _answers(name: str) -> ValueInfoProto:
    return helper.make_tensor_value_info(name, TensorProto.FLOAT, None)


def _between(nodes: Sequence[NodeProto], first: NodeProto, last: NodeProto, kept: Set[str]) -> set[int]:
    """Return the positions of all nodes from `first` to `last`, and of those that only these use.

    Nodes whose results are `kept` are not among them.
    """
    consumers = defaultdict[str, set[int]](set)
    for number, node in enumerate(nodes):
        for name in node.input:
            consumers[name].add(number)
    inside, end, left = set[int](), nodes.index(last), [nodes.index(first)]
    while left:
        number = left.pop()
        if number not in inside:
            inside.add(number)
            if number != end:
                left += [following for name in nodes[number].output for following in consumers[name]]
    while more := {
        number
        for number, node in enumerate(nodes)
        if number not in inside
        and all(consumers[name] and consumers[name] <= inside and name not in kept for name in node.output)
    }:
        inside |= more
    return inside
