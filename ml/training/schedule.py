"""Learning rates, weight decay and photo size over a training run."""

import math
from typing import Any

from torch import nn

from ml.model.networks import Network
from ml.params import Optimizer


def parameter_groups(network: Network, params: Optimizer) -> list[dict[str, Any]]:
    """Group the parameters: the head has its own learning rate; biases and BatchNorm have no weight decay."""
    head = {id(parameter) for parameter in network.head.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        groups.setdefault((id(parameter) in head, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": params.lr * (params.head_lr_factor if is_head else 1.0),
            "weight_decay": params.weight_decay if decays else 0.0,
        }
        for (is_head, decays), parameters in groups.items()
    ]


def learning_rate_factor(step: int, steps: int, warmup_share: float) -> float:
    """Return the share of the full learning rate at a step: linear warm-up, then a half cosine to zero."""
    warmup = warmup_share * steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))


def image_size_at(epoch: int, epochs: int, first: int, last: int) -> int:
    """Return height and width of the photos in an epoch: from `first` to `last` in steps of 32 pixels.

    If `first` is 0, it is `last` in every epoch. Small photos cost less, and suffice for the first epochs
    (Tan and Le 2021, "EfficientNetV2", progressive learning).
    """
    if not first or epochs == 1:
        return last
    return min(last, first + round((last - first) * epoch / (epochs - 1) / 32) * 32)
