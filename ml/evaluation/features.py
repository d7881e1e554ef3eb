"""Penultimate-layer features and logits of a set of photos."""

import contextlib
import dataclasses
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from ml.data import collected, sources
from ml.evaluation.metrics import Floats
from ml.model.errors import PipelineError
from ml.model.image import ImageError, Resize, decode
from ml.model.networks import Network
from ml.model.onnx_model import Images
from ml.training.head import judge


@dataclasses.dataclass(frozen=True)
class Features:
    """What a network computes for a set of photos, in the order of their rows.

    Attributes:
        embeddings: penultimate-layer features, float32 [N, D].
        logits: the network's, [N, classes].
    """

    embeddings: Tensor
    logits: Floats


def extract_features(network: Network, images: Images, rows: NDArray[np.int64] | None = None) -> Features:
    """Compute the features of photos [M, H, W, 3], or only of some rows [N] of them."""
    embeddings, logits = judge(network, images, np.arange(len(images)) if rows is None else rows)
    return Features(embeddings, logits.double().numpy())


def load_ood_photos(source: str, image_size: int, resize: Resize) -> NDArray[np.uint8] | None:
    """Decode all photos of `evaluate.other`, a folder, .zip or .tar, to uint8 [N, image_size, image_size, 3].

    The collected photos of none of the classes follow. Returns None if there are neither.

    Raises:
        PipelineError: the source cannot be read, or contains no photos; or a collected photo is missing.
    """
    others = collected.others()
    try:
        with sources.opened(Path(source)) if source else contextlib.nullcontext() as opened:
            files = opened.photos if opened else []
            # One array from the beginning: a list and its stack would need the memory twice.
            images = np.empty((len(files) + len(others), image_size, image_size, 3), np.uint8)
            count = 0
            for photo in files:
                with photo.open() as file, contextlib.suppress(ImageError):  # broken photos are left out
                    images[count] = decode(file.read(), image_size, resize)
                    count += 1
    except OSError as error:
        raise PipelineError(f"evaluate.other: cannot read {source}: {error}") from error
    if source and not count:
        raise PipelineError(f"evaluate.other: {source} contains no photos")
    for other in others:
        images[count] = decode(other.read(), image_size, resize)
        count += 1
    return images[:count] if count else None
