"""Finds out whether the photos are unlike those of the pretraining, where the network has to change more."""

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn

from ml.cli import note
from ml.data.dataset import Dataset
from ml.params import Params
from ml.training.head import embed, fit_head
from ml.training.initial import initial_network

_PHOTOS = 2000
"""Training photos that are looked at, at most: they take half a minute without a GPU."""
_FOLDS = 3


def for_these_photos(fabric: Fabric, params: Params, data: Dataset) -> Params:
    """Return the parameters, with the settings for unfamiliar photos if the training photos are that.

    They are if a head that is fitted to the pretrained features makes too many mistakes in cross-validation.
    """
    unfamiliar = params.recipe.unfamiliar
    if unfamiliar is None:
        return params
    network, pretrained = initial_network(params, data)
    if not pretrained:
        return params
    rows = data.sample("train", _PHOTOS, params.train.seed)
    network.to(fabric.device)
    features = embed(network, data.images, rows, fabric.autocast)
    error = fabric.broadcast(_error(features, torch.from_numpy(data.labels[rows]), len(data.classes)))
    if error < unfamiliar.from_error:
        return params
    if fabric.is_global_zero:
        note(
            f"the pretrained features alone are wrong on {error:.0%} of the photos: training changes the "
            "network more (`unfamiliar` in the recipe)"
        )
    return params.with_recipe(params.recipe.for_unfamiliar())


def _error(features: Tensor, labels: Tensor, classes: int) -> float:
    """Return the share of photos that a head is wrong on which has not learnt from them.

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
    return wrong / len(labels)
