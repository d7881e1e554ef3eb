"""What a `model.pt` contains besides its ONNX model: stored weights, manifest and training statistics."""

import datetime
import hashlib
from collections.abc import Mapping, Sequence

import numpy as np
from torch import Tensor

from ml.data.dataset import Dataset
from ml.evaluation.metrics import Floats
from ml.model import reference
from ml.model.decision import THRESHOLD
from ml.model.manifest import Manifest
from ml.tracking.provenance import dataset_md5, git_commit, parameters_changed
from ml.training.trained_network import TrainedNetwork


def stored_weights(weights: Mapping[str, Tensor], half: bool) -> dict[str, Tensor]:
    """Return weights as they are stored: with `half`, matrices and kernels have 16 bits, the rest 32."""
    return {
        name: value.half() if half and value.is_floating_point() and value.ndim > 1 else value
        for name, value in weights.items()
    }


def describe_model(
    data: Dataset,
    trained: TrainedNetwork,
    temperature: float,
    weights: Mapping[str, Tensor],
    method: str,
    answers: Mapping[str, Floats],
    metrics: Mapping[str, float],
    shortfalls: Sequence[str],
) -> Manifest:
    """Describe a packaged network.

    The version is derived from the stored `weights`; if there are `shortfalls`, it ends with `-candidate`.
    `answers`, the outputs by name, and `metrics` are the ONNX model's on the test photos; `method` names the
    OOD score's, see `ml.model.ood`.
    """
    content = hashlib.sha256()
    for name, value in weights.items():
        content.update(name.encode() + value.contiguous().numpy().tobytes())
    return Manifest(
        arch=trained.arch,
        classes=data.classes,
        image_size=data.image_size,
        resize=data.resize,
        mean=trained.network.mean,
        std=trained.network.std,
        temperature=temperature,
        metrics={name: round(value, 6) for name, value in metrics.items()},
        created=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        version=content.hexdigest()[:12] + ("-candidate" if shortfalls else ""),
        git_commit=git_commit(),
        parameters_changed=parameters_changed(),
        dataset_md5=dataset_md5(),
        known={"method": method, "threshold": THRESHOLD},
        reference=reference_statistics(data, answers),
        shortfalls=tuple(shortfalls),
    )


def reference_statistics(data: Dataset, answers: Mapping[str, Floats]) -> dict[str, dict[str, float]]:
    """Describe training photos and the outputs for test photos; the service compares its own with them."""
    rows = data.rows("train")
    sizes = data.sizes[rows]
    values = {
        "brightness": np.array([reference.brightness(data.images[row]) for row in rows]),
        "aspect_ratio": sizes[:, 0] / sizes[:, 1],
        "short_side_pixels": sizes.min(1),
        "known": answers["known"],
        **{f"component_{number}": column for number, column in enumerate(answers["components"].T, 1)},
    }
    probabilities = answers["probabilities"]
    return reference.describe(data.classes, values, probabilities.max(1), probabilities.argmax(1))
