"""The networks of two looks are trained like any others, one after the other."""

import json

import numpy as np
import pytest
import torch

from ml.data.dataset import Dataset
from ml.model.networks import Normalization
from ml.model.two_looks import SECOND_LOOKS, TwoLooks, first_size
from ml.params import Params
from ml.paths import HISTORY
from ml.training import train
from ml.training.head import judge
from ml.training.looks import ShrunkImages
from ml.training.trained_network import TrainedNetwork
from tests.helpers.killed_training import killed_after_an_epoch

pytestmark = pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning")


@pytest.fixture
def two(params: Params) -> Params:
    """Parameters for two looks."""
    plain = params.model_dump()
    plain["train"] |= {"second_look": "simple_cnn"}
    return Params.model_validate(plain)


def test_each_network_is_what_it_would_be_alone(data: Dataset, two: Params, params: Params) -> None:
    history = train.run(two)
    assert [entry["epoch"] for entry in history] == [1, 2, 3, 4, 5, 6]
    trained = TrainedNetwork.load(data)
    network = trained.network
    assert trained.arch == "simple_cnn+simple_cnn"
    assert isinstance(network, TwoLooks)

    rows = data.rows("val")
    logits = judge(network, data.images, rows)[1]
    loss = torch.nn.functional.cross_entropy(logits, torch.from_numpy(data.labels[rows])).item()
    assert json.loads(HISTORY.read_text())["choices"][0]["val_loss"] == pytest.approx(loss)
    with torch.inference_mode():
        surest = network.head(network.embed(_inputs(network, data.images[rows]))).softmax(1).amax(1)
    assert (surest < network.sure_from).double().mean() == pytest.approx(SECOND_LOOKS, abs=1 / len(rows))

    train.run(params)
    alone = TrainedNetwork.load(data).network
    for name, value in alone.state_dict().items():
        torch.testing.assert_close(network.second.state_dict()[name], value, rtol=0, atol=0)


def test_an_interrupted_second_look_goes_on(data: Dataset, two: Params) -> None:
    whole = train.run(two)
    weights = TrainedNetwork.load(data).network.state_dict()
    with killed_after_an_epoch(of=lambda loop: loop.data.image_size == data.image_size):
        train.run(two)
    assert train.run(two) == whole
    for name, value in TrainedNetwork.load(data).network.state_dict().items():
        torch.testing.assert_close(value, weights[name], rtol=0, atol=0)


def test_smaller_photos_are_those_that_the_first_network_sees(data: Dataset) -> None:
    small = ShrunkImages(data.images, first_size(data.image_size))
    assert len(small) == len(data.images)
    some = small[np.array([3, 1])]
    assert some.shape == (2, 26, 26, 3)
    assert np.array_equal(small[1], some[1])
    brightness = [images.mean((1, 2)) for images in (some, data.images[np.array([3, 1])])]
    assert np.abs(brightness[0] - brightness[1]).max() < 2


def _inputs(network: TwoLooks, images: np.ndarray) -> torch.Tensor:
    return Normalization(network.mean, network.std)(torch.from_numpy(images))
