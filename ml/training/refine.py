"""After the epochs: the mean with the pretrained weights, and a head fitted anew on the averaged body.

Fine-tuning makes a network better on photos like the training set's and worse on others. The mean of the
weights before and after keeps most of the first and loses little of the second (Wortsman et al. 2022,
"Robust fine-tuning of zero-shot models"). The head then fits the averaged body by logistic regression,
which has one optimum. What is best is chosen on validation, never on test.
"""

import contextlib
import dataclasses
from collections.abc import Callable, Iterator, Mapping, Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from ml.dataset import Dataset
from ml.networks import Network, Normalization
from ml.params import Recipe
from ml.training.batches import PLAIN_BATCH, plain_batches

Precision = Callable[[], contextlib.AbstractContextManager[object]]


@dataclasses.dataclass(frozen=True)
class Choice:
    """One combination that was tried, and its log loss on validation."""

    finetuned_share: float
    refit_l2: float | None
    val_loss: float


def average(
    pretrained: Mapping[str, Tensor], finetuned: Mapping[str, Tensor], share: float
) -> dict[str, Tensor]:
    """Mix two state_dicts: `share` of the fine-tuned, the rest of the pretrained; counters are left alone."""
    return {
        name: torch.lerp(pretrained[name], tuned, share) if tuned.is_floating_point() else tuned
        for name, tuned in finetuned.items()
    }


def mean(runs: Sequence[Mapping[str, Tensor]]) -> dict[str, Tensor]:
    """Mean of state_dicts that were fine-tuned from the same weights (Wortsman et al. 2022, "Model soups").

    It does as well as the answers' mean, which would take a pass for each; counters are the first one's.
    """
    first = runs[0]
    return {
        name: torch.stack([weights[name] for weights in runs]).mean(0) if value.is_floating_point() else value
        for name, value in first.items()
    }


def embed(
    network: Network, data: Dataset, rows: NDArray[np.int64], autocast: Precision, *, mirror: bool = False
) -> tuple[Tensor, Tensor]:
    """Features float32 [N, D] of photos as they are (or mirrored), and their labels int64 [N]."""
    device = next(network.parameters()).device
    normalize = Normalization(network.mean, network.std)
    network.eval()
    features, labels = [], []
    count = -(-len(rows) // PLAIN_BATCH)
    batches = tqdm(plain_batches(data, rows, mirror=mirror), "features", total=count, mininterval=1)
    with torch.inference_mode(), autocast():
        for pixels, targets in batches:
            features.append(network.embed(normalize(pixels.to(device))).float().cpu())
            labels.append(targets)
    return torch.cat(features), torch.cat(labels)


def fit_head(features: Tensor, labels: Tensor, classes: int, l2: float) -> tuple[Tensor, Tensor]:
    """Fit multinomial logistic regression by L-BFGS on standardized features.

    Args:
        features: float32 [N, D].
        labels: int64 [N].
        classes: how many there are.
        l2: weight of the squared norm of the weights, added to the mean log loss.

    Returns:
        weight [classes, D] and bias [classes] of a linear layer on the features as they came.
    """
    mean, scale = features.mean(0), features.std(0).clamp_min(1e-6)
    inputs = ((features - mean) / scale).clone()
    weight = torch.zeros(classes, features.shape[1], requires_grad=True)
    bias = torch.zeros(classes, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=300, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(inputs @ weight.T + bias, labels) + l2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        raw = weight / scale
        return raw.detach(), (bias - raw @ mean).detach()


def refine(
    network: Network,
    pretrained: Mapping[str, Tensor] | None,
    finetuned: Mapping[str, Tensor],
    data: Dataset,
    recipe: Recipe,
    autocast: Precision,
) -> list[Choice]:
    """Leave the network with the weights that are best on validation; return all that was tried, best first.

    Args:
        network: of the right architecture; its weights are replaced.
        pretrained: the weights before fine-tuning; None: trained from scratch, nothing to average with.
        finetuned: the weights after it.
        data: the prepared photos.
        recipe: `finetuned_share` and `refit_l2` are used.
        autocast: context in which the network computes.
    """
    tried: list[tuple[Choice, dict[str, Tensor]]] = []
    for share in recipe.finetuned_share if pretrained is not None else [1.0]:
        weights = average(pretrained, finetuned, share) if pretrained is not None else dict(finetuned)
        network.load_state_dict(weights)
        val, val_labels = embed(network, data, data.rows("val"), autocast)
        for l2, head in _heads(network, data, recipe, autocast):
            logits = val @ head[0].T + head[1]
            loss = functional.cross_entropy(logits, val_labels).item()
            names = _head_names(network)
            tried.append((Choice(share, l2, loss), weights | dict(zip(names, head, strict=True))))
    tried.sort(key=lambda pair: pair[0].val_loss)
    network.load_state_dict(tried[0][1])
    return [choice for choice, _ in tried]


def _heads(
    network: Network, data: Dataset, recipe: Recipe, autocast: Precision
) -> Iterator[tuple[float | None, tuple[Tensor, Tensor]]]:
    """Yield the heads to try on the present body: the one it has, and one a strength of L2."""
    yield None, (network.head.weight.detach().cpu().clone(), network.head.bias.detach().cpu().clone())
    if recipe.refit_l2:
        rows = data.rows("train")
        both = [embed(network, data, rows, autocast, mirror=mirror) for mirror in (False, True)]
        features, labels = (torch.cat(parts) for parts in zip(*both, strict=True))
        for l2 in recipe.refit_l2:
            yield l2, fit_head(features, labels, len(data.classes), l2)


def _head_names(network: Network) -> tuple[str, str]:
    name = next(name for name, module in network.named_modules() if module is network.head)
    return f"{name}.weight", f"{name}.bias"
