"""A second network looks again at the photos of which the first is unsure."""

import pytest
import torch

from ml.model.errors import PipelineError
from ml.model.manifest import is_arch
from ml.model.networks import build
from ml.model.two_looks import SECOND_LOOKS, TwoLooks, first_size, shrink

ARCH = "simple_cnn+simple_cnn"


@pytest.fixture
def network() -> TwoLooks:
    """A network with random weights, whose answers differ from photo to photo."""
    torch.manual_seed(0)
    network = build(ARCH, 3).eval()
    assert isinstance(network, TwoLooks)
    with torch.no_grad():
        network.head.weight.mul_(20)
    return network


@pytest.fixture
def photos() -> torch.Tensor:
    return torch.rand(6, 3, 64, 64) * torch.linspace(0.2, 3, 6).reshape(-1, 1, 1, 1)


@torch.inference_mode()
def test_only_unsure_photos_get_the_weighted_mean_of_both(network: TwoLooks, photos: torch.Tensor) -> None:
    first = network.first(shrink(photos, first_size(64)))
    both = first / 3 + network.second(photos) * 2 / 3
    surest = first.softmax(1).amax(1)
    torch.testing.assert_close(network(photos), both)  # until it is fitted
    for unsure in range(len(photos) + 1):  # also none of them, and all
        network.sure_from.fill_(torch.cat([surest, torch.tensor([2.0])]).sort().values[unsure])
        looked_twice = (surest < network.sure_from)[:, None]
        assert int(looked_twice.sum()) == unsure
        torch.testing.assert_close(network(photos), torch.where(looked_twice, both, first))


@torch.inference_mode()
def test_a_fixed_share_is_unsure(network: TwoLooks) -> None:
    photos = torch.rand(200, 3, 32, 32) * torch.rand(200, 1, 1, 1) * 3
    features = network.embed(photos)
    network.fit(features)
    answers, first = network.judge(photos, features), network.head(features)
    assert (answers != first).any(1).double().mean() == pytest.approx(SECOND_LOOKS, abs=0.005)


def test_features_and_evidence_are_those_of_the_first_network(
    network: TwoLooks, photos: torch.Tensor
) -> None:
    small = shrink(photos, first_size(64))
    with torch.inference_mode():
        assert torch.equal(network.embed(photos), network.first.embed(small))
        assert torch.equal(
            network.evidence(network.map(photos)), network.first.evidence(network.first.map(small))
        )


def test_the_names_of_two_architectures_make_one() -> None:
    names = ("simple_cnn", ARCH, "efficientnet_lite0+efficientnet_lite2")
    assert all(is_arch(name) for name in names)
    others = ("simple_cnn+", "+simple_cnn", f"{ARCH}+simple_cnn", "simple_cnn+timm/resnet18", "+", "")
    assert not any(is_arch(name) for name in others)
    with pytest.raises(PipelineError, match="need the same mean and std"):
        build("simple_cnn+efficientnet_lite0", 2)


def test_both_bodies_are_pretrained_and_photos_have_the_size_of_the_second() -> None:
    network = build("efficientnet_lite0+efficientnet_lite2", 2)
    before = {name: value.clone() for name, value in network.state_dict().items()}
    assert network.load_pretrained()
    assert network.image_size == 260
    assert first_size(260) == 216
    for name in ("first.stem.0.weight", "second.stem.0.weight"):
        assert not torch.equal(network.state_dict()[name], before[name])
    assert not build(ARCH, 2).load_pretrained()
