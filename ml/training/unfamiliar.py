"""Finds out whether the photos are unlike those of the pretraining: then the network has to change more."""

import torch
from lightning_fabric import Fabric
from scipy.special import betaincinv
from torch import Tensor, nn

from ml.cli import note
from ml.data.dataset import Dataset
from ml.params import Params
from ml.training.head import fit_head
from ml.training.initial import embed_together, initial_network

_PHOTOS, _PER_CLASS = 2000, 10
"""At most this many training photos are used, or this many per class if that is more. 2,000 photos take half
a minute without a GPU."""
_FOLDS = 3
_BY_CHANCE = 0.025


def is_unfamiliar(fabric: Fabric, params: Params, data: Dataset) -> bool:
    """Return whether a head on the pretrained features is clearly wrong too often, in cross-validation.

    All processes return the same. Without pretrained weights, or if the recipe has no settings for unfamiliar
    photos, no photos are unfamiliar.
    """
    settings = params.recipe.unfamiliar
    if settings is None:
        return False
    network, pretrained = initial_network(params, data)
    if not pretrained:
        return False
    count = max(_PHOTOS, _PER_CLASS * len(data.classes))
    rows = data.sample("train", count, params.train.seed)
    features = embed_together(fabric, network, data, rows)
    wrong = _mistakes(features, torch.from_numpy(data.labels[rows]), len(data.classes))
    # The lower end of the interval of Clopper and Pearson (1934).
    low = betaincinv(wrong, len(rows) - wrong + 1, _BY_CHANCE) if wrong else 0.0
    unfamiliar = bool(low > settings.from_error)
    if unfamiliar and fabric.is_global_zero:
        lr = params.recipe.optimizer.lr
        note(
            f"a head on the pretrained features is wrong on {wrong / len(rows):.0%} of the training photos: "
            f"the learning rate is {lr * settings.lr_factor:g} instead of {lr:g} (`unfamiliar` in the recipe)"
        )
    return bool(fabric.broadcast(unfamiliar))


def _mistakes(features: Tensor, labels: Tensor, classes: int) -> int:
    """Return how many mistakes a fitted head makes in cross-validation.

    Args:
        features: [N, D].
        labels: [N].
        classes: number of classes.
    """
    folds = torch.empty_like(labels)
    folds[labels.argsort(stable=True)] = torch.arange(len(labels)) % _FOLDS  # each class evenly
    head, wrong = nn.Linear(features.shape[1], classes), 0
    for fold in range(_FOLDS):
        unseen = folds == fold
        fit_head(head, features[~unseen], labels[~unseen])
        with torch.inference_mode():
            wrong += int((head(features[unseen]).argmax(1) != labels[unseen]).sum())
    return wrong
