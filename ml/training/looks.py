"""Trains the networks of a model with two looks like any others, one after the other, and joins them."""

import dataclasses
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch.nn import functional

from ml.data.dataset import Dataset
from ml.model import checkpoint
from ml.model.errors import BundleError, PipelineError
from ml.model.networks import Network, build
from ml.model.onnx_model import Images
from ml.model.two_looks import TwoLooks, first_size, shrink
from ml.params import Params
from ml.training.head import embed, judge


class ShrunkImages:
    """Photos uint8 [N, size, size, 3], made smaller when they are indexed, as the first network sees them."""

    def __init__(self, images: Images, size: int) -> None:
        self._images, self._size = images, size

    def __len__(self) -> int:
        return len(self._images)

    def __getitem__(self, rows: int | NDArray[np.int64], /) -> NDArray[np.uint8]:
        pixels = self._images[rows]
        images = torch.from_numpy(pixels.reshape(-1, *pixels.shape[-3:])).permute(0, 3, 1, 2).float()
        small = shrink(images, self._size).round().byte().permute(0, 2, 3, 1).numpy()
        return np.ascontiguousarray(small.reshape(*pixels.shape[:-3], *small.shape[1:]))


def looks(params: Params, data: Dataset) -> list[tuple[Params, Dataset]]:
    """Return the parameters and the photos of each network that is trained: one, or one for each look."""
    if not params.train.second_look:
        return [(params, data)]
    first = params.train.model_copy(update={"second_look": "", "first_model": ""})
    second = first.model_copy(update={"arch": params.train.second_look, "body": ""})
    size = first_size(data.image_size)
    small = dataclasses.replace(data, image_size=size, images=ShrunkImages(data.images, size))
    trained = [(second, data)] if params.train.first_model else [(first, small), (second, data)]
    return [(params.model_copy(update={"train": train}), photos) for train, photos in trained]


def read_first(params: Params, data: Dataset) -> list[Network]:
    """Return the network that takes the first look without being trained, if `train.first_model` names one.

    Raises:
        PipelineError: the file can't be read, or its network doesn't fit the parameters or the photos.
    """
    if not (path := params.train.first_model):
        return []
    try:
        model = checkpoint.read(Path(path))
    except (OSError, BundleError) as error:
        raise PipelineError(f"train.first_model: {path} can't be used: {error}") from error
    for what, its, expected in (
        ("the architecture", model.manifest.arch, params.train.first_look),
        ("the classes", list(model.manifest.classes), list(data.classes)),
        ("the resizing", model.manifest.resize, data.resize),
    ):
        if its != expected:
            raise PipelineError(f"train.first_model: {path} has {what} {its}, not {expected}")
    network = build(model.manifest.arch, len(data.classes))
    network.load_state_dict(model.state_dict)
    return [network.to(memory_format=torch.channels_last)]


def join(first: Network, second: Network, data: Dataset) -> tuple[Network, float]:
    """Join two trained networks by the validation photos; return the network and its log loss on them."""
    network, rows = TwoLooks(first, second).to(first.head.weight.device), data.rows("val")
    network.fit(embed(network, data.images, rows))
    logits = judge(network, data.images, rows)[1]
    return network, functional.cross_entropy(logits, torch.from_numpy(data.labels[rows])).item()
