"""The network before its first step."""

from typing import cast

import numpy as np
import torch
from lightning_fabric import Fabric
from numpy.typing import NDArray
from torch import Tensor

from ml.data.dataset import Dataset
from ml.model.errors import PipelineError, one_line
from ml.model.networks import Network, build
from ml.params import Params
from ml.training.balance import class_weights
from ml.training.head import PER_CLASS, embed, fit_head

HEAD_PHOTOS = 50_000
"""A head is fitted to about this many training photos at most, to bound the memory."""


def initial_network(params: Params, data: Dataset) -> tuple[Network, bool]:
    """Build the network, and return it and whether it has pretrained weights.

    Raises:
        PipelineError: it has none, but its batch normalization should keep their statistics.
    """
    network = build(params.train.network, len(data.classes))
    network.to(memory_format=torch.channels_last)  # twice as fast on CPUs as torch's default
    pretrained = network.load_pretrained()
    if params.recipe.freeze_batch_norm and not pretrained:
        raise PipelineError(
            f"{params.train.network} has no pretrained weights, so its batch normalization has no statistics "
            f"to keep: set recipes.{params.train.arch}.freeze_batch_norm to false"
        )
    return network, pretrained


def check_size(params: Params, size: int) -> None:
    """Check that the network takes photos of this height and width; transformers may take one size only.

    Raises:
        PipelineError: it does not.
    """
    with torch.device("meta"), torch.inference_mode():  # no weights are made, and nothing is computed
        network = build(params.train.network, 2).eval()
        try:
            network(torch.zeros(1, 3, size, size))
        except (AssertionError, RuntimeError, ValueError) as error:
            raise PipelineError(
                f"{params.train.network} takes no photos of {size} pixels, but {network.image_size}: "
                f"set prepare.image_size to 0 ({one_line(str(error), 200)})"
            ) from error


def fit_initial_head(fabric: Fabric, network: Network, params: Params, data: Dataset) -> None:
    """Fit the head to the features of the training photos, which the processes compute together."""
    rows = data.sample("train", HEAD_PHOTOS, params.train.seed, PER_CLASS)
    features = embed_together(fabric, network, data, rows)
    weights = class_weights(data.labels[rows], len(data.classes), params.recipe.class_balance)
    fit_head(network.head, features, torch.from_numpy(data.labels[rows]), weights)


def embed_together(fabric: Fabric, network: Network, data: Dataset, rows: NDArray[np.int64]) -> Tensor:
    """Compute features float32 [N, D] of rows [N] in all processes, on their devices."""
    network.to(fabric.device)
    own = slice(fabric.global_rank, None, fabric.world_size)
    part = embed(network, data.images, rows[own], fabric.autocast)
    features = torch.zeros(len(rows), part.shape[1])
    features[own] = part
    return cast(Tensor, fabric.all_reduce(features, reduce_op="sum")).cpu()  # others' rows are zero here
