"""Weight averaging after the last epoch: over the runs, and with the pretrained weights.

Fine-tuning improves a network on photos like those of the training split and harms it on others. The mean of
the weights before and after keeps most of the gain and avoids most of the loss (Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models"). The validation split decides the share, never the test split.

The head can then be averaged with one that is fitted to the features of the averaged body. For photos
unlike those of the pretraining, that is better than either head, and better than a choice by validation.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml.data.dataset import Dataset
from ml.model.networks import Network
from ml.params import Params
from ml.training.balance import class_weights
from ml.training.head import PER_CLASS, embed, fit_head
from ml.training.loop import copy_weights

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the fine-tuned weights that are tried if `train.minutes` lets validation choose."""
SECOND_HEAD_PHOTOS = 10_000
"""The second head is fitted to about this many training photos at most. Meanwhile other processes wait."""


def interpolate(
    pretrained: Mapping[str, Tensor], finetuned: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Mix two state_dicts: `share` of the fine-tuned one. Counters are taken from it unchanged."""
    return {
        name: torch.lerp(pretrained[name], tuned, share) if tuned.is_floating_point() else tuned
        for name, tuned in finetuned.items()
    }


def mean_weights(runs: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Return the mean of state_dicts that were fine-tuned from the same weights ("model soup").

    It is as accurate as the mean of the runs' answers (Wortsman et al. 2022, "Model soups"), which would need
    one forward pass per run. Counters are those of the first run.
    """
    return {
        name: torch.stack([weights[name] for weights in runs]).mean(0) if value.is_floating_point() else value
        for name, value in runs[0].items()
    }


def load_best_average(
    network: Network,
    pretrained: Mapping[str, Tensor] | None,
    finetuned: Mapping[str, Tensor],
    data: Dataset,
    shares: Sequence[float],
) -> list[dict[str, float]]:
    """Load into a network the average that is best on the validation split.

    Of the fine-tuned weights, several shares are tried. Without pretrained weights there is no average.

    Returns:
        `finetuned_share` and `val_loss` (log loss on the validation split) of all averages, best first.
    """
    rows = data.rows("val")
    labels = torch.from_numpy(data.labels[rows])
    tried: list[tuple[dict[str, float], dict[str, Tensor]]] = []
    for share in shares if pretrained is not None else [1.0]:
        weights = dict(finetuned) if pretrained is None else interpolate(pretrained, finetuned, share)
        network.load_state_dict(weights)
        val_loss = _loss(network.head, embed(network, data.images, rows), labels)
        tried.append(({"finetuned_share": share, "val_loss": val_loss}, weights))
    tried.sort(key=lambda pair: pair[0]["val_loss"])
    network.load_state_dict(tried[0][1])
    return [choice for choice, _ in tried]


def load_mean_head(network: Network, params: Params, data: Dataset) -> float:
    """Replace a network's head by its mean with one that is fitted to the features of the training photos.

    Returns:
        The log loss on the validation split.
    """
    sample = data.sample("train", SECOND_HEAD_PHOTOS, params.train.seed, PER_CLASS)
    rows = {"train": sample, "val": data.rows("val")}
    features = {split: embed(network, data.images, of_split) for split, of_split in rows.items()}
    labels = {split: torch.from_numpy(data.labels[of_split]) for split, of_split in rows.items()}
    weights = class_weights(data.labels[rows["train"]], len(data.classes), params.recipe.class_balance)
    trained = copy_weights(network.head)
    fit_head(network.head, features["train"], labels["train"], weights)
    network.head.load_state_dict(mean_weights([trained, copy_weights(network.head)]))
    return _loss(network.head, features["val"], labels["val"])


def _loss(head: nn.Linear, features: Tensor, labels: Tensor) -> float:
    logits = functional.linear(features, head.weight.detach().cpu(), head.bias.detach().cpu())
    return functional.cross_entropy(logits, labels).item()
