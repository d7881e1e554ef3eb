"""Architectures: shapes, layer names of existing checkpoints, pretrained weights."""

import pytest
import torch

from ml.model.errors import PipelineError
from ml.model.image import decode
from ml.model.manifest import ARCHITECTURES
from ml.model.networks import Normalization, build, network_class
from tests.conftest import RED, coloured, encode


@pytest.mark.parametrize("arch", ARCHITECTURES)
def test_logits_embedding_and_evidence(arch):
    network = build(arch, 3).eval()
    images = torch.rand(2, 3, 64, 64)
    assert network(images).shape == (2, 3)
    assert torch.allclose(network.head(network.embed(images)), network(images))
    features = network.map(images)
    assert network.evidence(features).shape == (2, 3, *features.shape[2:])


def test_the_baseline_has_the_layout_of_older_checkpoints():
    names = build("simple_cnn", 2).state_dict()
    assert names["features.0.weight"].shape == (32, 3, 3, 3)
    assert names["features.12.weight"].shape == (256, 128, 3, 3)
    assert names["classifier.1.weight"].shape == (128, 256)
    assert names["classifier.4.weight"].shape == (2, 128)
    legacy = build("simple_cnn_legacy", 2).state_dict()
    assert legacy["features.9.weight"].shape == (256, 128, 3, 3)
    assert not any("running_mean" in name for name in legacy)


def test_imagenet_weights_fill_the_whole_body():
    network = build("efficientnet_lite0", 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert network.load_pretrained()
    after = network.state_dict()
    same = {n for n in after if torch.equal(after[n], before[n]) and not n.endswith("num_batches_tracked")}
    assert same == {"classifier.weight", "classifier.bias"}


def test_a_new_architecture_is_one_module():
    """Each module is listed without torch, and registers a class of its own name."""
    assert {"efficientnet_lite0", "simple_cnn", "simple_cnn_legacy"} <= set(ARCHITECTURES)
    for arch in ARCHITECTURES:
        assert network_class(arch).__module__ == f"ml.model.networks.{arch}"
        assert bool(network_class(arch).pretrained) == build(arch, 2).load_pretrained()


def test_unknown_architecture():
    with pytest.raises(PipelineError, match="vgg"):
        build("vgg", 2)


def test_normalization():
    pixels = torch.from_numpy(decode(encode(coloured(RED), "PNG"), 16).copy())[None]
    inputs = Normalization((0.5,) * 3, (0.25,) * 3)(pixels)
    assert inputs.shape == (1, 3, 16, 16)
    assert inputs[0, 2, 5, 7].item() == pytest.approx(
        (pixels[0, 5, 7, 2].item() / 255 - 0.5) / 0.25, abs=1e-5
    )
