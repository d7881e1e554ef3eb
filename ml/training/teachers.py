"""Distillation: the answers of trained models are part of the training targets (Hinton et al. 2015).

The teachers answer to each training photo once, without augmentation. Their mean answer is kept in a file, so
that further trainings with the same photos and teachers don't compute it again.
"""

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn import functional
from tqdm import tqdm

from ml.cli import note
from ml.data.dataset import Dataset
from ml.model.answering import Answering, restore
from ml.model.checkpoint import Checkpoint, read
from ml.model.errors import BundleError, PipelineError
from ml.training.batches import PLAIN_BATCH, plain_batches


def read_teachers(paths: Sequence[str], classes: Sequence[str]) -> list[Checkpoint]:
    """Read the models, `model.pt` files whose classes are those of the photos, in any order.

    Raises:
        PipelineError: a file is missing, is no such model, or has other classes.
    """
    teachers = []
    for path in paths:
        try:
            teacher = read(Path(path))
        except (OSError, BundleError) as error:
            raise PipelineError(
                f"train.teachers: {path}: {getattr(error, 'strerror', None) or error}"
            ) from error
        if set(teacher.manifest.classes) != set(classes):
            raise PipelineError(
                f"train.teachers: {path} has the classes {', '.join(teacher.manifest.classes)}, "
                f"but the photos have {', '.join(classes)}"
            )
        teachers.append(teacher)
    return teachers


def soft_targets(
    teachers: Sequence[Checkpoint], data: Dataset, weight: float, folder: Path, device: torch.device
) -> NDArray[np.float32]:
    """Return targets [N, classes] of all photos: the label and, for training photos, the teachers' answer.

    Args:
        teachers: see `read_teachers`.
        data: the photos.
        weight: of the teachers' answer; the label has the rest.
        folder: keeps the teachers' answers.
        device: computes them.
    """
    targets = np.eye(len(data.classes), dtype=np.float32)[data.labels]
    rows = data.rows("train")
    targets[rows] = (1 - weight) * targets[rows] + weight * _answers(teachers, data, rows, folder, device)
    return targets


def _answers(
    teachers: Sequence[Checkpoint],
    data: Dataset,
    rows: NDArray[np.int64],
    folder: Path,
    device: torch.device,
) -> NDArray[np.float32]:
    parts = [*(teacher.sha256 for teacher in teachers), *data.classes, str(data.image_size), data.resize]
    parts += [data.hashes[row] for row in rows]
    path = folder / f"teachers-{hashlib.sha256(chr(10).join(parts).encode()).hexdigest()[:12]}.npy"
    if path.is_file():
        return np.asarray(np.load(path), np.float32)
    mean = np.mean([_answer(teacher, data, rows, device) for teacher in teachers], axis=0, dtype=np.float32)
    hits = float((mean.argmax(1) == data.labels[rows]).mean())
    note(f"the teachers give {hits:.2%} of the training photos their label")
    partial = path.with_suffix(".part.npy")
    np.save(partial, mean)
    partial.replace(path)
    return np.asarray(mean, np.float32)


def _answer(
    teacher: Checkpoint, data: Dataset, rows: NDArray[np.int64], device: torch.device
) -> NDArray[np.float32]:
    """Return one teacher's probabilities [N, classes], the mean over each photo and its mirror image."""
    try:
        answering = restore(teacher).to(device)
    except BundleError as error:
        raise PipelineError(f"train.teachers: {error}") from error
    size, answers = teacher.manifest.image_size, []
    batches = tqdm(plain_batches(data.images, rows), "teacher", -(-len(rows) // PLAIN_BATCH), mininterval=1)
    with torch.inference_mode():
        for pixels, _ in batches:
            photos = _resize(pixels.to(device), size)
            both = [_probabilities(answering, side) for side in (photos, photos.flip(2))]
            answers.append(torch.stack(both).mean(0).cpu())
    order = [teacher.manifest.classes.index(name) for name in data.classes]
    return np.asarray(torch.cat(answers)[:, order].numpy(), np.float32)


def _probabilities(answering: Answering, photos: Tensor) -> Tensor:
    logits: Tensor = answering.network(answering.normalize(photos.float()))
    return (logits.float() / answering.temperature).softmax(1)


def _resize(pixels: Tensor, size: int) -> Tensor:
    """Return uint8 photos [N, H, W, 3] with height and width `size`."""
    if pixels.shape[1] == size:
        return pixels
    scaled = functional.interpolate(
        pixels.permute(0, 3, 1, 2).float(), (size, size), mode="bilinear", antialias=True
    )
    return scaled.round().clamp(0, 255).to(torch.uint8).permute(0, 2, 3, 1)
