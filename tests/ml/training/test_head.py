"""The head that is fitted to the features."""

import numpy as np
import pytest
import torch

from ml.data.dataset import Dataset
from ml.model.networks import build
from ml.params import Params
from ml.training import initial, train
from ml.training.head import fit_head


def test_the_fitted_head_separates_what_can_be_separated():
    torch.manual_seed(0)
    network = build("simple_cnn", 3)
    labels = torch.arange(90) % 3
    features = torch.randn(90, 128) * 5 + 7
    features[torch.arange(90), labels] += 40
    fit_head(network.head, features, labels)
    with torch.no_grad():
        assert (network.head(features).argmax(1) == labels).all()


def test_a_feature_that_hardly_varies_decides_nothing():
    torch.manual_seed(0)
    network = build("simple_cnn", 2)
    labels = torch.arange(90) % 2
    features = torch.randn(90, 128)
    features[:, 0] += 4 * (labels == 0)
    features[:, 1] = 0.001 * (labels == 1)
    fit_head(network.head, features, labels)
    other = torch.zeros(1, 128)
    other[0, :2] = torch.tensor([4.0, 0.5])
    with torch.no_grad():
        assert network.head(other).argmax(1) == 0


class EmbeddedError(Exception):
    """Ends a training whose first step is of interest."""


@pytest.mark.parametrize("most", [20, 1000])
def test_the_head_is_fitted_to_a_bounded_number_of_photos(params, monkeypatch, tmp_path, most):
    splits = np.array(["test", "train"] * 45)
    data = Dataset(
        ("a", "b"), 32, "center_crop", np.zeros((90, 32, 32, 3), np.uint8), np.arange(90) % 2, splits,
        [], [], np.full((90, 2), 32),
    )  # fmt: skip
    embedded = []

    def embed(network, images, rows, *_):
        embedded.append(rows)
        raise EmbeddedError

    monkeypatch.setattr(initial, "HEAD_PHOTOS", most)
    monkeypatch.setattr(initial, "embed", embed)
    plain = params.model_dump()
    plain["train"]["arch"] = "efficientnet_lite0"
    fabric, state = train.make_fabric("32-true"), tmp_path / "state.pt"
    for _ in range(2):
        with pytest.raises(EmbeddedError):
            train._train_runs(fabric, Params.model_validate(plain), data, data, state)
    first, again = embedded
    assert (first == again).all()
    assert len(first) == min(most, 45)
    assert (splits[first] == "train").all()
    assert (np.diff(first) > 0).all()
