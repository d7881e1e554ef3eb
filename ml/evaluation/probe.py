"""Fits the linear probe: logistic regression on the features of the pretrained body, which stays as it is."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml.data.dataset import Dataset, Split
from ml.data.duplicates import difference_hash, drop_near_duplicates
from ml.data.photo import Photo
from ml.evaluation.baselines import Probe, has_few_test_photos
from ml.evaluation.metrics import Floats, Labels, fit_temperature, softmax
from ml.model.networks import Network, build
from ml.params import Params
from ml.training.head import embed, fit_head

_FOLDS = 5
_MOST = 20_000
"""Photos that the probe learns from at most, evenly from all classes; more hardly change it."""


def fit_probe(params: Params, arch: str, data: Dataset) -> Probe | None:
    """Fit the probe to the training photos, and its temperature to the validation photos.

    Returns None if the architecture has no pretrained body.
    """
    network = build(arch, len(data.classes))
    if not network.load_pretrained():
        return None
    network.to(memory_format=torch.channels_last)
    random = np.random.default_rng(params.train.seed)
    rows = {split: data.rows(split) for split in ("train", "val", "test")}
    rows["train"] = _evenly(rows["train"], data.labels, random)
    features = {split: embed(network, data.images, some) for split, some in rows.items()}
    fit_head(network.head, features["train"], torch.from_numpy(data.labels[rows["train"]]))
    temperature = fit_temperature(_logits(network, features["val"]), data.labels[rows["val"]])
    test = softmax(_logits(network, features["test"]), temperature)
    crossed, labels = np.empty((0, len(data.classes))), np.empty(0, np.int64)
    if has_few_test_photos(data):
        every = np.concatenate(list(rows.values()))
        labels = data.labels[every]
        crossed = _cross_validate(params, network, data, every, torch.cat(list(features.values())))
    return Probe(test, crossed, labels)


def _evenly(rows: NDArray[np.int64], labels: Labels, random: np.random.Generator) -> NDArray[np.int64]:
    """Return at most `_MOST` rows; the classes with the most photos lose some first."""
    if len(rows) <= _MOST:
        return rows
    rows = random.permutation(rows)
    order = np.argsort(labels[rows], kind="stable")
    counts = np.bincount(labels[rows])
    number_in_class = np.empty(len(rows), np.int64)
    number_in_class[order] = np.concatenate([np.arange(count) for count in counts])
    return np.sort(rows[np.argsort(number_in_class, kind="stable")[:_MOST]])


def _cross_validate(
    params: Params, network: Network, data: Dataset, rows: NDArray[np.int64], features: Tensor
) -> Floats:
    """Return the probabilities of rows [N] of the data, [N, classes], each by a probe that hasn't seen it.

    Each class is spread evenly over the folds. As between the splits, a photo that nearly equals one of the
    fold that is answered is not learned from.
    """
    labels = data.labels[rows]
    random = np.random.default_rng(params.train.seed)
    shuffled = random.permutation(len(rows))
    folds = np.empty(len(rows), np.int64)
    folds[shuffled[np.argsort(labels[shuffled], kind="stable")]] = np.arange(len(rows)) % _FOLDS
    probabilities = np.empty((len(rows), len(data.classes)))
    codes = [difference_hash(data.images[row]) for row in rows]
    for fold in range(_FOLDS):
        unseen = folds == fold
        learned = np.flatnonzero(~unseen & ~_near(params, data, rows, codes, unseen))
        fit_head(network.head, features[learned], torch.from_numpy(labels[learned]))
        probabilities[unseen] = softmax(_logits(network, features[np.flatnonzero(unseen)]))
    return probabilities


def _near(
    params: Params,
    data: Dataset,
    rows: NDArray[np.int64],
    codes: Sequence[bytes],
    unseen: NDArray[np.bool_],
) -> NDArray[np.bool_]:
    """Return whether each of the rows [N], with these difference hashes, nearly equals one that is unseen."""
    splits: tuple[Split, Split] = ("train", "test")
    photos = [
        Photo(
            data.paths[row],
            sha256=data.hashes[row],
            split=splits[int(test)],
            code=code,
        )
        for row, code, test in zip(rows, codes, unseen, strict=True)
    ]
    kept = drop_near_duplicates(photos, params.prepare.near_duplicate_bits)
    return np.array([bool(photo.reason) for photo in kept])


def _logits(network: Network, features: Tensor) -> Floats:
    with torch.inference_mode():
        return np.asarray(network.head(features).double().numpy(), np.float64)
