"""Averages of weights."""

import pytest
import torch
from torch import Tensor, nn

from ml.data.dataset import Dataset
from ml.model.networks import build
from ml.params import Params
from ml.training import averaging, initial
from ml.training.averaging import interpolate, load_mean_head, mean_weights
from ml.training.initial import fit_initial_head
from ml.training.train import make_fabric


def weights(value: float, count: int) -> dict[str, torch.Tensor]:
    return {"layer.weight": torch.full((2, 2), value), "norm.num_batches_tracked": torch.tensor(count)}


def test_the_mean_of_runs_takes_the_counters_of_the_first():
    mean = mean_weights([weights(1.0, 5), weights(4.0, 7), weights(4.0, 9)])
    assert torch.equal(mean["layer.weight"], torch.full((2, 2), 3.0))
    assert mean["norm.num_batches_tracked"] == 5


def test_a_share_of_the_fine_tuned_weights():
    mixed = interpolate(weights(0.0, 0), weights(4.0, 7), 0.25)
    assert torch.equal(mixed["layer.weight"], torch.full((2, 2), 1.0))
    assert mixed["norm.num_batches_tracked"] == 7


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_a_rare_class_is_among_the_photos_to_which_heads_are_fitted(
    data: Dataset, params: Params, monkeypatch: pytest.MonkeyPatch
) -> None:
    fitted = list[set[int]]()

    def fit_head(head: nn.Linear, features: Tensor, labels: Tensor, weights: Tensor) -> None:
        fitted.append(set(labels.tolist()))

    for module, most in ((averaging, "SECOND_HEAD_PHOTOS"), (initial, "HEAD_PHOTOS")):
        monkeypatch.setattr(module, most, 1)
        monkeypatch.setattr(module, "fit_head", fit_head)
    network = build("simple_cnn", 2)
    load_mean_head(network, params, data)
    fit_initial_head(make_fabric("32-true"), network, params, data)
    assert fitted == [{0, 1}, {0, 1}]
