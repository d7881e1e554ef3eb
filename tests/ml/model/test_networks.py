"""Architectures: shapes, layer names of existing checkpoints, pretrained weights."""

import sys
from types import ModuleType

import pytest
import torch

from ml.model import networks
from ml.model.errors import PipelineError
from ml.model.image import decode
from ml.model.manifest import ARCHITECTURES, LIBRARIES
from ml.model.networks import Normalization, build, network_class
from ml.model.networks.efficientnet_lite0 import ConvBN
from tests.conftest import RED, coloured, encode
from tests.ml.test_predict_command import CAT


@pytest.mark.parametrize("size", [32, 64])
@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_logits_embedding_and_evidence(arch, size):
    network = build(arch, 3).eval()
    images = torch.rand(2, 3, size, size)
    assert network(images).shape == (2, 3)
    features = network.map(images)
    assert network.evidence(features).shape == (2, 3, *features.shape[2:])
    # If all places look the same, each has the evidence of the photo: the logits, with or without the bias.
    flat = features.mean((2, 3), keepdim=True).expand_as(features)
    logits = network.head(network.pool(flat))
    rest = logits - network.evidence(flat)[..., 0, 0]
    assert (rest - rest[:1]).abs().max() < 1e-4 * logits.abs().max()


def test_the_baseline_has_the_layout_of_older_checkpoints():
    names = build("simple_cnn", 2).state_dict()
    assert names["features.0.weight"].shape == (32, 3, 3, 3)
    assert names["features.12.weight"].shape == (256, 128, 3, 3)
    assert names["classifier.1.weight"].shape == (128, 256)
    assert names["classifier.4.weight"].shape == (2, 128)
    legacy = build("simple_cnn_legacy", 2).state_dict()
    assert legacy["features.9.weight"].shape == (256, 128, 3, 3)
    assert not any("running_mean" in name for name in legacy)


@pytest.mark.parametrize("number", [0, 1, 2])
def test_imagenet_weights_fill_the_whole_body(number):
    network = build(f"efficientnet_lite{number}", 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert network.load_pretrained()
    after = network.state_dict()
    same = {n for n in after if torch.equal(after[n], before[n]) and not n.endswith("num_batches_tracked")}
    assert same == {"classifier.weight", "classifier.bias"}


@pytest.mark.parametrize(("number", "size"), [(0, 224), (1, 240), (2, 260)])
def test_the_imagenet_head_knows_a_cat(number, size):
    """The body, its order of layers and its padding are those that the weights were trained with."""
    network = build(f"efficientnet_lite{number}", 1000).eval()
    network.load_pretrained()
    network.head.load_state_dict(dict(zip(("weight", "bias"), network.concepts(), strict=True)))
    assert network.image_size == size
    pixels = torch.from_numpy(decode(CAT.read_bytes(), size).copy())[None]
    with torch.inference_mode():
        places = network.map(Normalization(network.mean, network.std)(pixels))
        answer = network.head(network.pool(places)).softmax(1)[0]
    assert places.shape[2:] == (-(-size // 32), -(-size // 32))
    assert answer[281:286].sum() > 0.8  # ImageNet's classes of house cats


@pytest.mark.parametrize("size", [32, 33, 34, 35])
@pytest.mark.parametrize("kernel", [3, 5])
def test_same_padding_of_any_size(size, kernel):
    """As TensorFlow pads: the output has size / stride, rounded up, and the far side has more padding."""
    layer = ConvBN(1, 1, kernel, stride=2, act=False).eval()
    torch.nn.init.ones_(layer[0].weight)
    image = torch.ones(1, 1, size, size + 1)
    covered = layer(image) * (1 + layer[1].eps) ** 0.5
    assert covered.shape[2:] == (-(-size // 2), -(-(size + 1) // 2))
    total = max(0, (covered.shape[2] - 1) * 2 + kernel - size)
    assert covered[0, 0, 0, covered.shape[3] // 2].item() == pytest.approx(kernel * (kernel - total // 2))


def test_a_new_architecture_is_one_module():
    """Each module is listed without torch, and registers a class of its own name."""
    assert {"efficientnet_lite0", "simple_cnn", "simple_cnn_legacy"} <= set(ARCHITECTURES)
    assert not set(ARCHITECTURES) & set(LIBRARIES)
    for arch in ARCHITECTURES:
        assert network_class(arch).__module__ == f"ml.model.networks.{arch}"
        network = build(arch, 2)
        assert bool(network.pretrained) == network.load_pretrained()
        assert network.pretrained or network.concepts() is None


def test_a_module_that_registers_another_name_is_named(monkeypatch):
    monkeypatch.delitem(networks._CLASSES, "simple_cnn", raising=False)
    monkeypatch.setitem(sys.modules, "ml.model.networks.simple_cnn", ModuleType("simple_cnn"))
    with pytest.raises(PipelineError, match=r'write @register\("simple_cnn"\) above its class'):
        build("simple_cnn", 2)


@pytest.mark.parametrize(
    ("arch", "message"),
    [
        ("vgg", "unknown architecture 'vgg'; there are .*timm/MODEL"),
        ("torchvision/", "unknown architecture"),
        ("timm/hf-hub:someone/model", "unknown architecture"),
        ("torchvision/resnet19", "torchvision has no model resnet19: .* lists its models"),
        ("torchvision/squeezenet1_1", "its layers don't run one after the other"),
        ("torchvision/vit_b_16", "its layers don't run one after the other"),
        ("timm/resnet19", "timm has no model resnet19: .* lists its models"),
        ("timm/resnet18.no_such_weights", "timm cannot build resnet18.no_such_weights"),
    ],
)
def test_unknown_architecture(arch, message):
    if arch.startswith("timm/resnet"):
        pytest.importorskip("timm")
    with pytest.raises(PipelineError, match=message):
        build(arch, 2)


def test_normalization():
    pixels = torch.from_numpy(decode(encode(coloured(RED), "PNG"), 16).copy())[None]
    inputs = Normalization((0.5,) * 3, (0.25,) * 3)(pixels)
    assert inputs.shape == (1, 3, 16, 16)
    assert inputs[0, 2, 5, 7].item() == pytest.approx(
        (pixels[0, 5, 7, 2].item() / 255 - 0.5) / 0.25, abs=1e-5
    )
