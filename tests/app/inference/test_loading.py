"""ONNX models that don't match their manifest are rejected; both engines give the same predictions."""

from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from onnx import TensorProto, helper

from app.inference import loading
from ml.model import bundle
from ml.model.errors import BundleError
from ml.model.image import decode
from ml.model.manifest import Manifest
from ml.model.networks import build
from ml.model.ood import Concepts, Distance, OodScore
from ml.model.reference import COMPONENTS
from ml.packaging.export import export
from tests.conftest import SIZE, colour_graph, manifest
from tests.helpers.graphs import telling_graph
from tests.helpers.paths import ROOT


def no_softmax() -> bytes:
    model = onnx.load_from_string(colour_graph())
    model.graph.node.pop()
    model.graph.node[-1].output[0] = "probabilities"
    return model.SerializeToString()


def graph(source="image", target="probabilities", kind=TensorProto.FLOAT, rows="N") -> bytes:
    """A graph that ignores its input and returns one constant row."""
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
    loaded = loading.load(make_model(), "auto", 1)
    images = np.zeros((5, SIZE, SIZE, 3), np.uint8)
    images[1::2, ..., 2] = 255
    images[::2, ..., 0] = 255
    answer = loaded.answer(images).probabilities
    assert answer.dtype == np.float32
    assert answer.argmax(1).tolist() == [0, 1, 0, 1, 0]
    np.testing.assert_allclose(answer.sum(1), 1, atol=1e-6)
    assert loaded.name == "onnx"
    assert loaded.manifest.version == "test-1"


@pytest.mark.parametrize(
    ("onnx_model", "message"),
    [
        (b"nonsense", "cannot be loaded"),
        (graph(source="x"), "inputs \\['x'\\]"),
        (graph(target="y"), "outputs \\['y'\\]"),
        (graph(kind=TensorProto.INT32), "tensor\\(int32\\)"),
        (graph(rows=1), "has image"),
        (graph(), "has probabilities"),
        (no_softmax(), "returns no probabilities"),
        (colour_graph(size=SIZE * 2), "has image"),
        (colour_graph(outputs=3), "has probabilities"),
    ],
)
def test_unusable_onnx_models_are_rejected(make_model, onnx_model, message):
    with pytest.raises(BundleError, match=message) as caught:
        loading.load(make_model(graph=onnx_model), "onnx", 1)
    assert "\n" not in str(caught.value)


def baseline(arch: str, path: Path, outputs: int = 2) -> Path:
    """Weights of the baseline, with BatchNorm statistics that matter."""
    torch.manual_seed(3)
    network = build(arch, outputs)
    network.train()
    network(torch.rand(8, 3, 64, 64))
    torch.save(network.eval().state_dict(), path)
    return path


@pytest.mark.parametrize("arch", ["simple_cnn", "simple_cnn_legacy"])
def test_bare_weights_are_recognised_and_predict_like_plain_torch(arch, tmp_path):
    path = baseline(arch, tmp_path / "bare.pt")
    loaded = loading.load(path, "auto", 1)
    assert (loaded.name, loaded.manifest.arch, loaded.manifest.classes) == ("torch", arch, ("cat", "dog"))
    assert (loaded.manifest.resize, loaded.manifest.image_size) == ("squash", 224)
    images = np.random.default_rng(0).integers(0, 256, (3, 224, 224, 3), np.uint8)
    network = build(arch, 2)
    network.load_state_dict(torch.load(path, weights_only=True))
    with torch.no_grad():
        plain = network.eval()(torch.from_numpy(images).permute(0, 3, 1, 2) / 255).softmax(1).numpy()
    assert np.abs(loaded.answer(images).probabilities - plain).max() < 1e-5


def test_a_file_that_is_no_checkpoint_is_rejected_with_the_reason(tmp_path):
    torch.save({"layer.weight": torch.zeros(2)}, tmp_path / "other.pt")
    torch.save([1, 2], tmp_path / "list.pt")
    baseline("simple_cnn", tmp_path / "ten.pt", outputs=10)
    short = baseline("simple_cnn", tmp_path / "short.pt")
    short.write_bytes(short.read_bytes()[:-5000])
    for name, found in [
        ("other", r"layer\.weight"),
        ("list", "a list"),
        ("ten", r"\(10, 128\)"),
        ("short", "cut short"),
    ]:
        with pytest.raises(BundleError, match=found):
            loading.load(tmp_path / f"{name}.pt", "auto", 1)


def test_the_onnx_engine_rejects_a_checkpoint_without_onnx_model(tmp_path):
    with pytest.raises(BundleError, match=r"without extra/model\.json"):
        loading.load(baseline("simple_cnn", tmp_path / "bare.pt"), "onnx", 1)


def test_both_engines_give_the_same_answers():
    from app.settings import EMBEDDED

    photo = (ROOT / "tests" / "photos" / "cat.jpg").read_bytes()
    engines = [loading.load(EMBEDDED, kind, 1) for kind in ("onnx", "torch")]
    size = engines[0].manifest.image_size
    noise = np.random.default_rng(1).integers(0, 256, (size, size, 3), np.uint8)
    images = np.stack([decode(photo, size), decode(photo, size)[:, ::-1], noise])
    assert [e.name for e in engines] == ["onnx", "torch"]
    assert engines[0].manifest == engines[1].manifest
    first, second = (e.answer(images) for e in engines)
    # The ONNX model is int8: it stays close on photos; on noise, only its label is compared.
    assert np.abs(first.probabilities[:2] - second.probabilities[:2]).max() < 0.02
    assert (first.probabilities.argmax(1) == second.probabilities.argmax(1)).all()
    assert np.abs(first.known - second.known)[:2].max() < 0.1
    assert (first.known > 0.5).tolist() == (second.known > 0.5).tolist() == [True, True, False]
    for mine, theirs in zip(first.evidence[:2], second.evidence[:2], strict=True):
        assert np.corrcoef(mine.ravel(), theirs.ravel())[0, 1] > 0.9


def knowing(path: Path, method: str = "distance", drop: int = 0) -> Path:
    """A model.pt of the baseline with random weights, its exact ONNX model, and an OOD score."""
    torch.manual_seed(5)
    network = build("simple_cnn", 3).eval()
    if method == "distance":
        known: OodScore = Distance(torch.randn(3, 128), torch.randn(128, 128 - drop) / 40)
    else:
        known = Concepts(128 - drop, 8, 10)
        torch.nn.init.uniform_(known.support)
    known.edge.fill_(-0.3)
    known.slope.fill_(0.7)
    known.eval().requires_grad_(False)
    onnx_twin = telling_graph(outputs=3) if drop else export(network, 1.3, SIZE, known)
    described = manifest(
        classes=["a", "b", "c"], temperature=1.3, known={"method": method, "threshold": 0.5}, resize="squash",
        reference={"component_1": {"0.0": 0.5}},
    )  # fmt: skip
    bundle.write(
        path, Manifest.from_dict(described), network.state_dict(), onnx_twin, known.state_dict(), "# Card"
    )
    return path


@pytest.mark.filterwarnings("ignore::DeprecationWarning", "ignore::FutureWarning", "ignore::UserWarning")
@pytest.mark.parametrize("method", ["distance", "concepts"])
def test_an_exact_onnx_model_scores_like_torch(method, tmp_path):
    path = knowing(tmp_path / "model.pt", method)
    images = np.random.default_rng(2).integers(0, 256, (9, SIZE, SIZE, 3), np.uint8)
    engines = [loading.load(path, kind, 1) for kind in ("onnx", "torch")]
    assert [set(e.outputs) for e in engines] == [{"probabilities", "known", "components", "evidence"}] * 2
    assert [e.card for e in engines] == ["# Card"] * 2
    first, second = (e.answer(images) for e in engines)
    assert first.known.shape == (9,)
    assert first.evidence.shape == (9, 3, 4, 4)
    assert first.components.shape == (9, COMPONENTS)
    assert len(set(first.known.tolist())) == 9  # it depends on the photo
    for name in ("probabilities", "known", "components", "evidence"):
        np.testing.assert_allclose(getattr(first, name), getattr(second, name), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("method", ["distance", "concepts"])
def test_weights_for_other_features_are_rejected_with_one_line(method, tmp_path):
    path = knowing(tmp_path / "model.pt", method, drop=1)
    with pytest.raises(BundleError, match="its network doesn't run") as caught:
        loading.load(path, "torch", 1)
    assert "\n" not in str(caught.value)


def test_without_a_threshold_there_is_no_score(tmp_path):
    network = build("simple_cnn", 2).eval()
    known = Distance(torch.randn(2, 128), torch.eye(128))
    plain = manifest(resize="squash")
    bundle.write(
        tmp_path / "m.pt",
        Manifest.from_dict(plain),
        network.state_dict(),
        telling_graph(),
        known.state_dict(),
    )
    for kind in ("onnx", "torch"):
        loaded = loading.load(tmp_path / "m.pt", kind, 1)
        assert set(loaded.outputs) == {"probabilities", "evidence"}
        assert loaded.answer(np.zeros((1, SIZE, SIZE, 3), np.uint8)).known is None
