"""Means of weights."""

import torch

from ml.training.refine import average, mean


def weights(value: float, count: int) -> dict[str, torch.Tensor]:
    return {"layer.weight": torch.full((2, 2), value), "norm.num_batches_tracked": torch.tensor(count)}


def test_the_mean_of_runs_leaves_counters_alone():
    found = mean([weights(1.0, 5), weights(4.0, 7), weights(4.0, 9)])
    assert torch.equal(found["layer.weight"], torch.full((2, 2), 3.0))
    assert found["norm.num_batches_tracked"] == 5


def test_a_share_of_the_fine_tuned():
    found = average(weights(0.0, 0), weights(4.0, 7), 0.25)
    assert torch.equal(found["layer.weight"], torch.full((2, 2), 1.0))
    assert found["norm.num_batches_tracked"] == 7
