"""Penultimate-layer features, and a head fitted to them by logistic regression."""

import contextlib
from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from ml.model.networks import Network, Normalization
from ml.model.onnx_model import Images
from ml.training.batches import PLAIN_BATCH, plain_batches

PER_CLASS = 10
"""A head is fitted to so many photos of each class that has them, or it would never answer a rare one."""

_L2 = 0.01


def embed(
    network: Network,
    images: Images,
    rows: NDArray[np.int64],
    autocast: Callable[[], contextlib.AbstractContextManager[object]] = contextlib.nullcontext,
) -> Tensor:
    """Compute features float32 [N, D] of photos without augmentation, in main memory.

    Args:
        network: on any device.
        images: uint8 [M, H, W, 3].
        rows: which of them, [N].
        autocast: context of the computation, such as Fabric's.
    """
    with torch.inference_mode(), autocast():
        features = [network.embed(batch).float().cpu() for batch in _inputs(network, images, rows)]
    return torch.cat(features)


def judge(network: Network, images: Images, rows: NDArray[np.int64]) -> tuple[Tensor, Tensor]:
    """Compute features float32 [N, D], as `embed` does, and logits [N, classes]."""
    features, logits = list[Tensor](), list[Tensor]()
    with torch.inference_mode():
        for batch in _inputs(network, images, rows):
            features.append(network.embed(batch))
            logits.append(network.judge(batch, features[-1]).cpu())
            features[-1] = features[-1].cpu()
    return torch.cat(features), torch.cat(logits)


def _inputs(network: Network, images: Images, rows: NDArray[np.int64]) -> Iterator[Tensor]:
    """Yield normalized photos [N, 3, H, W] on the device of the network, which stops training."""
    device = next(network.parameters()).device
    normalize = Normalization(network.mean, network.std)
    network.eval()
    batches = tqdm(plain_batches(images, rows), "features", -(-len(rows) // PLAIN_BATCH), mininterval=1)
    return (normalize(pixels.to(device)) for pixels, _ in batches)


def fit_head(head: nn.Linear, features: Tensor, labels: Tensor, weights: Tensor | None = None) -> None:
    """Fit a head to features [N, D] and labels [N] by multinomial logistic regression (L-BFGS).

    `weights` [classes] say how much the photos of each class count.
    A random head would first damage the pretrained features (Kumar et al. 2022, LP-FT).
    """
    mean, scale = features.mean(0), features.std(0)
    # Features that vary less than the average are not scaled up: on other photos they may vary much more, and
    # would outweigh the rest.
    scale = scale.clamp_min(max(float(scale.mean()), 1e-6))
    inputs = ((features - mean) / scale).clone()
    weight = torch.zeros(head.weight.shape, requires_grad=True)
    bias = torch.zeros(head.bias.shape, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [weight, bias], max_iter=300, tolerance_grad=1e-6, line_search_fn="strong_wolfe"
    )

    def closure() -> Tensor:
        optimizer.zero_grad()
        loss = functional.cross_entropy(inputs @ weight.T + bias, labels, weights)
        loss = loss + _L2 * weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    optimizer.step(closure)  # type: ignore[no-untyped-call]
    with torch.no_grad():
        unscaled = weight / scale  # for features that are not standardized
        head.weight.copy_(unscaled)
        head.bias.copy_(bias - unscaled @ mean)
