"""Products of int8 weights fit into 16 bits."""

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from app.settings import EMBEDDED
from ml.model import bundle
from ml.model.onnx_model import FITS_16_BITS, OnnxModel
from ml.packaging.quantize import _quantize
from ml.packaging.weight_ranges import largest_sums, weight_ranges

SIZE, CHANNELS, CLASSES = 24, 3, 8
CONVOLUTIONS = {  # weights [outputs, inputs per group, height, width]; groups
    "first": ((16, CHANNELS, 3, 3), 1),
    "odd": ((9, 16, 3, 3), 1),
    "point": ((16, 9, 1, 1), 1),
    "grouped": ((16, 4, 3, 3), 4),
    "depthwise": ((16, 1, 5, 5), 16),
    "doubled": ((32, 1, 3, 3), 16),  # two outputs for each input, which no depthwise kernel does
    "one": ((1, 32, 1, 1), 1),
    "from one": ((16, 1, 3, 3), 1),
    "last": ((64, 16, 1, 1), 1),
}


@pytest.mark.parametrize(
    ("weights", "most"),
    [
        ([[1, 2, 3, 4]], 7),
        ([[1, -2, -3, 4]], 4),
        ([[-5, -2, 3, 4]], 7),
        ([[4, 0, 0, 4]], 4),
        ([[1, 2, 3]], 3),
        ([[0, 0, 0, 0]], 0),
    ],
)
def test_neighbours_of_one_sign_count(weights, most):
    assert largest_sums(np.array(weights)) == [most]


def test_inputs_are_read_in_any_order():
    """A library may have channels last, have each place's odd channels padded, or have channels first."""
    places = np.zeros((1, 3, 1, 2))  # one output, three channels, two places
    places[0, :, 0, 0] = 1, 2, 4
    places[0, :, 0, 1] = 8, 16, 32
    # Channels last: (1 2) (4 8) (16 32); padded: (1 2) (4) (8 16) (32); first: (1 8) (2 16) (4 32).
    assert largest_sums(places) == [48]
    places[0, 0, 0, 1], places[0, 2, 0, 1] = 32, 8  # (4 32), (32 16), (1 32)
    assert largest_sums(places) == [48]
    places[0, :, 0, 1] = 8, 0, 32  # (16 32) is gone
    assert largest_sums(places) == [36]


def network(generator):
    """Return a float32 model, whose weights are all about as large as the largest."""
    nodes = [
        helper.make_node("Cast", ["image"], ["pixels"], to=TensorProto.FLOAT),
        helper.make_node("Transpose", ["pixels"], ["x0"], perm=[0, 3, 1, 2]),
    ]
    constants = {"flat": np.array([0, -1])}
    for step, (name, (shape, groups)) in enumerate(CONVOLUTIONS.items()):
        constants[name] = generator.uniform(0.8, 1, shape).astype(np.float32)
        constants[name] *= np.where(np.arange(shape[0]) % 2, 1, -1).reshape(-1, 1, 1, 1)
        constants[f"{name}.bias"] = np.where(np.arange(shape[0]) % 2, 0, 9e3).astype(np.float32)
        weights = [f"x{step}", name, f"{name}.bias"]
        nodes += [
            helper.make_node("Conv", weights, [f"y{step}"], name=name, group=groups),
            helper.make_node("Relu", [f"y{step}"], [f"x{step + 1}"]),
        ]
    step = len(CONVOLUTIONS)
    constants["gemm"] = generator.uniform(0.8, 1, (64, CLASSES)).astype(np.float32)
    constants["known.head.weight"] = constants["gemm"].T.copy()
    nodes += [
        helper.make_node("GlobalAveragePool", [f"x{step}"], ["mean"]),
        helper.make_node("Reshape", ["mean", "flat"], ["features"]),
        helper.make_node("Gemm", ["features", "gemm"], ["out"], name="head"),
        helper.make_node("Gemm", ["features", "known.head.weight"], ["known"], name="known", transB=1),
    ]
    inputs = [helper.make_tensor_value_info("image", TensorProto.UINT8, ["N", SIZE, SIZE, CHANNELS])]
    outputs = [
        helper.make_tensor_value_info(name, TensorProto.FLOAT, ["N", CLASSES]) for name in ("out", "known")
    ]
    initializers = [numpy_helper.from_array(value, name) for name, value in constants.items()]
    graph = helper.make_graph(nodes, "network", inputs, outputs, initializers)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    onnx.checker.check_model(model)
    return model


@pytest.fixture(scope="module")
def photos():
    return np.random.default_rng(1).choice(np.array([0, 250, 255], np.uint8), (16, SIZE, SIZE, CHANNELS))


@pytest.fixture(scope="module")
def quantized(photos):
    return onnx.load_from_string(_quantize(network(np.random.default_rng(0)).SerializeToString(), photos))


def int8_weights(graph):
    """Yield the name and the value of each, also of those in branches."""
    for constant in graph.initializer:
        if constant.data_type == TensorProto.INT8 and len(constant.dims) > 1:
            yield constant.name.removesuffix("_quantized"), numpy_helper.to_array(constant).astype(int)
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.HasField("g"):
                yield from int8_weights(attribute.g)


def test_all_quantized_weights_fit(quantized):
    sums = {name: largest_sums(weights) for name, weights in int8_weights(quantized.graph)}
    assert sums.keys() == {*CONVOLUTIONS, "known.head.weight"}
    assert sums.pop("depthwise").max() > 128  # its products are added in 32 bits
    assert all(most.max() <= 128 for most in sums.values()), sums
    assert all(most.min() >= 120 for most in sums.values()), "no precision is given away"


def test_answers_are_exact_without_the_slow_way_of_cpus_without_vnni(quantized, photos):
    """On other CPUs, both ways are the same."""
    assert FITS_16_BITS in [entry.key for entry in quantized.metadata_props]
    fast = OnnxModel(quantized.SerializeToString(), 1).run(photos)
    del quantized.metadata_props[:]
    exact = OnnxModel(quantized.SerializeToString(), 1).run(photos)
    assert np.ptp(exact["known"]) > 0
    assert all((fast[name] == exact[name]).all() for name in exact)


def test_the_default_model_takes_the_fast_way_rightly():
    model = onnx.load_from_string(bundle.read(EMBEDDED).onnx)
    assert FITS_16_BITS in [entry.key for entry in model.metadata_props]
    dense = [value for _, value in int8_weights(model.graph) if value.shape[1] > 1]
    assert len(dense) > 60, "those of both networks"
    assert max(largest_sums(value).max() for value in dense) <= 128


def test_gemm_has_its_outputs_where_its_attribute_says():
    model = network(np.random.default_rng(0))
    ranges = weight_ranges(model, {"point"})
    assert "point" not in ranges
    assert {entry["axis"] for entry in ranges["gemm"]} == {1}
    assert {entry["axis"] for entry in ranges["known.head.weight"]} == {0}
    assert [entry["rmax"] for entry in ranges["gemm"]] == [
        entry["rmax"] for entry in ranges["known.head.weight"]
    ]
