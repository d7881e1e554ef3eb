"""Weight averaging after the last epoch: over the runs, and with the pretrained weights.

Fine-tuning improves a network on photos like those of the training split and harms it on others. The mean of
the weights before and after keeps most of the gain and avoids most of the loss (Wortsman et al. 2022, "Robust
fine-tuning of zero-shot models"). The validation split decides the share, never the test split.
"""

import contextlib
import dataclasses
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor
from torch.nn import functional

from ml.data.dataset import Dataset
from ml.model.networks import Network
from ml.training.head import embed


@dataclasses.dataclass(frozen=True)
class Choice:
    """A share of the fine-tuned weights in the average, and its log loss on the validation split."""

    finetuned_share: float
    val_loss: float


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
    first = runs[0]
    return {
        name: torch.stack([weights[name] for weights in runs]).mean(0) if value.is_floating_point() else value
        for name, value in first.items()
    }


def load_best_average(
    network: Network,
    pretrained: Mapping[str, Tensor] | None,
    finetuned: Mapping[str, Tensor],
    data: Dataset,
    shares: Sequence[float],
) -> list[Choice]:
    """Load the average that is best on the validation split; return all that were tried, best first.

    Args:
        network: network of the right architecture; its weights are replaced.
        pretrained: the weights before fine-tuning; None if it was trained from scratch, without an average.
        finetuned: the weights after fine-tuning.
        data: the prepared photos.
        shares: shares of the fine-tuned weights to try.
    """
    tried: list[tuple[Choice, dict[str, Tensor]]] = []
    for share in shares if pretrained is not None else [1.0]:
        weights = dict(finetuned) if pretrained is None else interpolate(pretrained, finetuned, share)
        network.load_state_dict(weights)
        features, labels = embed(network, data, data.rows("val"), contextlib.nullcontext)
        head = network.head
        logits = functional.linear(features, head.weight.detach().cpu(), head.bias.detach().cpu())
        tried.append((Choice(share, functional.cross_entropy(logits, labels).item()), weights))
    tried.sort(key=lambda pair: pair[0].val_loss)
    network.load_state_dict(tried[0][1])
    return [choice for choice, _ in tried]
