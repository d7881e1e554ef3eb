"""Averages of weights."""

import torch

from ml.training.averaging import interpolate, mean_weights


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
