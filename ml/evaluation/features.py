"""Photos as a trained network sees them: what is left of them when only the last layer is to come."""

import contextlib
import dataclasses
import zipfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ml.dataset import Dataset
from ml.errors import PipelineError
from ml.image import ImageError, read
from ml.metrics import Floats, Labels
from ml.networks import Network, Normalization
from ml.training.batches import PLAIN_BATCH
from ml.training.refine import embed


@dataclasses.dataclass(frozen=True)
class Seen:
    """Photos in the order of their rows.

    Attributes:
        features: float32 [N, D].
        logits: [N, classes].
        labels: [N].
    """

    features: Tensor
    logits: Floats
    labels: Labels


def look(network: Network, data: Dataset, rows: NDArray[np.int64]) -> Seen:
    """Show the network those photos of a data set."""
    features, labels = embed(network, data, rows, contextlib.nullcontext)
    return Seen(features, _logits(network, features), labels.numpy())


def look_at_others(network: Network, images: NDArray[np.uint8]) -> Seen:
    """Show the network photos [N, H, W, 3] of none of the classes; their label is -1."""
    normalize = Normalization(network.mean, network.std)
    with torch.inference_mode():
        parts = [
            network.embed(normalize(torch.from_numpy(images[start : start + PLAIN_BATCH])))
            for start in range(0, len(images), PLAIN_BATCH)
        ]
    features = torch.cat(parts).float()
    return Seen(features, _logits(network, features), np.full(len(images), -1, np.int64))


def other_photos(source: Path, data: Dataset) -> NDArray[np.uint8]:
    """Decode all photos of a folder or a .zip as those of the data set are: uint8 [N, H, W, 3].

    Raises:
        PipelineError: there are none.
    """
    images = []
    for content in _files(source):
        with contextlib.suppress(ImageError):  # what is no photo is left out
            images.append(read(content, data.image_size, data.resize).pixels)
    if not images:
        raise PipelineError(f"evaluate.other: no photos in {source}")
    return np.stack(images)


def _files(source: Path) -> Iterator[bytes]:
    try:
        if source.is_dir():
            yield from (path.read_bytes() for path in sorted(source.rglob("*")) if path.is_file())
        else:
            with zipfile.ZipFile(source) as archive:
                yield from (archive.read(entry) for entry in archive.infolist() if not entry.is_dir())
    except (OSError, zipfile.BadZipFile) as error:
        raise PipelineError(f"evaluate.other: can't read {source}: {error}") from error


def _logits(network: Network, features: Tensor) -> Floats:
    with torch.inference_mode():
        logits: Floats = network.head(features).double().numpy()
    return logits
