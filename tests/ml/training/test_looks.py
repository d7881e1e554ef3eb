"""The networks of two looks are trained like any others, one after the other."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch

from ml.data.dataset import Dataset
from ml.model import bundle
from ml.model.errors import PipelineError
from ml.model.manifest import Manifest
from ml.model.networks import Normalization, build
from ml.model.two_looks import SECOND_LOOKS, TwoLooks, first_size
from ml.params import Params
from ml.paths import HISTORY
from ml.training import train
from ml.training.head import judge
from ml.training.looks import ShrunkImages
from ml.training.loop import Loop
from ml.training.trained_network import CHECKPOINT, TrainedNetwork
from tests.conftest import colour_graph, manifest
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


def test_a_model_can_take_the_first_look(data: Dataset, two: Params, tmp_path: Path) -> None:
    first = build("simple_cnn", 2)
    described = manifest(classes=list(data.classes), resize=data.resize)
    path = tmp_path / "first.pt"
    bundle.write(path, Manifest.from_dict(described), first.state_dict(), colour_graph())
    params = with_first(two, path)
    assert [entry["epoch"] for entry in train.run(params)] == [1, 2, 3]
    network = TrainedNetwork.load(data).network
    for name, value in first.state_dict().items():
        torch.testing.assert_close(network.first.state_dict()[name], value, rtol=0, atol=0)
    assert 0 < network.sure_from < 1

    bundle.write(path, Manifest.from_dict(manifest()), first.state_dict(), colour_graph())
    with pytest.raises(
        PipelineError, match=r"first\.pt has the classes \['red', 'blue'\], not \['blue', 'red'\]"
    ):
        train.run(params)
    with pytest.raises(PipelineError, match=r"none\.pt can't be used: .*No such file"):
        train.run(with_first(two, tmp_path / "none.pt"))


def test_networks_that_do_not_fit_are_noticed_before_the_training(
    data: Dataset, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = params.model_dump()
    plain["train"] |= {"second_look": "efficientnet_lite0"}
    plain["recipes"] |= {"efficientnet_lite0": plain["recipes"]["simple_cnn"]}
    monkeypatch.setattr(train, "_train_look", lambda *_: pytest.fail("it is trained"))
    with pytest.raises(PipelineError, match="the same mean and std"):
        train.run(Params.model_validate(plain))


def test_a_second_look_needs_a_recipe(params: Params) -> None:
    plain = params.model_dump()
    plain["train"] |= {"second_look": "efficientnet_lite2"}
    plain["recipes"].pop("efficientnet_lite2", None)
    with pytest.raises(ValueError, match="second_look is efficientnet_lite2: add a recipe"):
        Params.model_validate(plain)


def test_a_training_that_ends_while_it_is_logged_is_not_repeated(
    data: Dataset, two: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("ml.tracking.store.log_training", interrupt)
        with pytest.raises(KeyboardInterrupt):
            train.run(two)
    for output in (CHECKPOINT, HISTORY):  # as DVC does before it runs a stage
        output.unlink()
    monkeypatch.setattr(Loop, "_train_epoch", lambda *_: pytest.fail("it is trained again"))
    assert len(train.run(two)) == 6
    assert not list(train.STATE.parent.glob(f"{train.STATE.stem}-*"))


def with_first(params: Params, path: Path) -> Params:
    """Parameters with a model that takes the first look."""
    return params.model_copy(update={"train": params.train.model_copy(update={"first_model": str(path)})})


def test_smaller_photos_are_those_that_the_first_network_sees(data: Dataset) -> None:
    small = ShrunkImages(data.images, first_size(data.image_size))
    assert len(small) == len(data.images)
    some = small[np.array([3, 1])]
    assert some.shape == (2, 27, 27, 3)
    assert np.array_equal(small[1], some[1])
    brightness = [images.mean((1, 2)) for images in (some, data.images[np.array([3, 1])])]
    assert np.abs(brightness[0] - brightness[1]).max() < 2


def _inputs(network: TwoLooks, images: np.ndarray) -> torch.Tensor:
    return Normalization(network.mean, network.std)(torch.from_numpy(images))
