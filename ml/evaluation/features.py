"""Penultimate-layer features and logits of a set of photos."""

import contextlib
import dataclasses
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml.data.dataset import Dataset
from ml.evaluation.metrics import Floats, Labels
from ml.model.errors import PipelineError
from ml.model.image import ImageError, Resize, read
from ml.model.networks import Network, Normalization
from ml.training.batches import PLAIN_BATCH
from ml.training.head import embed


@dataclasses.dataclass(frozen=True)
class Features:
    """What a network computes for a set of photos, in the order of their rows.

    Attributes:
        embeddings: penultimate-layer features, float32 [N, D].
        logits: outputs of the head, [N, classes].
        labels: indices of the true classes, [N]; -1 for OOD photos.
    """

    embeddings: Tensor
    logits: Floats
    labels: Labels


def extract_features(network: Network, data: Dataset, rows: NDArray[np.int64]) -> Features:
    """Compute the features of photos of a data set."""
    embeddings, labels = embed(network, data, rows, contextlib.nullcontext)
    return Features(embeddings, _logits(network, embeddings), labels.numpy())


def extract_ood_features(network: Network, images: NDArray[np.uint8]) -> Features:
    """Compute the features of OOD photos [N, H, W, 3]."""
    normalize = Normalization(network.mean, network.std)
    with torch.inference_mode():
        batches = [
            network.embed(normalize(torch.from_numpy(images[first : first + PLAIN_BATCH])))
            for first in range(0, len(images), PLAIN_BATCH)
        ]
    embeddings = torch.cat(batches).float()
    return Features(embeddings, _logits(network, embeddings), np.full(len(images), -1, np.int64))


def load_ood_photos(source: Path, image_size: int, resize: Resize) -> NDArray[np.uint8]:
    """Decode all photos of a folder or a .zip to uint8 [N, image_size, image_size, 3].

    Raises:
        PipelineError: the source cannot be read, or contains no photos.
    """
    images = []
    for content in _files(source):
        with contextlib.suppress(ImageError):  # files that are not photos are left out
            images.append(read(content, image_size, resize).pixels)
    if not images:
        raise PipelineError(f"evaluate.other: {source} contains no photos")
    return np.stack(images)


def _files(source: Path) -> Iterator[bytes]:
    try:
        if source.is_dir():
            yield from (path.read_bytes() for path in sorted(source.rglob("*")) if path.is_file())
        else:
            with zipfile.ZipFile(source) as archive:
                yield from (archive.read(entry) for entry in archive.infolist() if not entry.is_dir())
    except (OSError, zipfile.BadZipFile) as error:
        raise PipelineError(f"evaluate.other: cannot read {source}: {error}") from error


def _logits(network: Network, embeddings: Tensor) -> Floats:
    with torch.inference_mode():
        logits: Floats = network.head(embeddings).double().numpy()
    return logits
