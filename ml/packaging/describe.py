"""What `model.pt` says of itself beside its weights."""

import datetime
import hashlib
from collections.abc import Mapping

import numpy as np
from torch import Tensor

from ml import reference as references
from ml.dataset import Dataset
from ml.known import THRESHOLD
from ml.manifest import Manifest
from ml.metrics import Floats
from ml.networks import Network
from ml.tracking import dataset_md5, git_commit


def stored(weights: Mapping[str, Tensor], half: bool) -> dict[str, Tensor]:
    """Return weights as they are stored: with `half`, matrices and kernels in 16 bits, the rest in 32."""
    return {
        name: value.half() if half and value.is_floating_point() and value.ndim > 1 else value
        for name, value in weights.items()
    }


def manifest(
    data: Dataset,
    network: Network,
    arch: str,
    temperature: float,
    weights: dict[str, Tensor],
    metrics: dict[str, float],
    method: str,
    reference: dict[str, dict[str, float]],
) -> Manifest:
    """Describe a packaged network.

    Args:
        data: the prepared photos.
        network: that was trained on them.
        arch: its name.
        temperature: fitted on validation.
        weights: as they are stored; they make the version.
        metrics: figures of its twin.
        method: see `ml.known`.
        reference: see `reference`.
    """
    content = hashlib.sha256()
    for name, value in weights.items():
        content.update(name.encode() + value.contiguous().numpy().tobytes())
    return Manifest(
        arch=arch,
        classes=data.classes,
        image_size=data.image_size,
        resize=data.resize,
        mean=network.mean,
        std=network.std,
        temperature=temperature,
        metrics={name: round(value, 6) for name, value in metrics.items()},
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        version=content.hexdigest()[:12],
        git_commit=git_commit(),
        dataset_md5=dataset_md5(),
        known={"method": method, "threshold": THRESHOLD},
        reference=reference,
    )


def reference(data: Dataset, given: Floats) -> dict[str, dict[str, float]]:
    """Describe the photos that trained it, and its answers to those that didn't."""
    rows = data.rows("train")
    sizes = data.sizes[rows]
    inputs = {
        "brightness": np.array([references.brightness(data.images[row]) for row in rows]),
        "aspect_ratio": sizes[:, 0] / sizes[:, 1],
        "short_side_pixels": sizes.min(1),
    }
    return references.describe(data.classes, inputs, given.max(1), given.argmax(1))
