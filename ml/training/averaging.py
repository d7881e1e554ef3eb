"""Weight averaging after the last epoch: over the runs, and with the pretrained weights.

Fine-tuning improves a network on photos like those of the training split and harms it on others. The mean of
the weights before and after keeps most of the gain and avoids most of the loss (Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models"). The validation split decides the share, never the test split.
"""

from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ml.data.dataset import Dataset
from ml.model.networks import Network
from ml.training.head import embed

SHARES = (0.25, 0.5, 0.75, 1.0)
"""Shares of the fine-tuned weights that are tried if `train.minutes` lets validation choose."""


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
        features, head = embed(network, data.images, rows), network.head
        logits = functional.linear(features, head.weight.detach().cpu(), head.bias.detach().cpu())
        val_loss = functional.cross_entropy(logits, labels).item()
        tried.append(({"finetuned_share": share, "val_loss": val_loss}, weights))
    tried.sort(key=lambda pair: pair[0]["val_loss"])
    network.load_state_dict(tried[0][1])
    return [choice for choice, _ in tried]
