"""What the network is to answer to each training photo, and how much each class counts."""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def class_weights(labels: NDArray[np.int64], classes: int, power: float) -> Tensor:
    """Return the weight of each class, float32 [classes]; the mean over the photos is 1.

    Args:
        labels: of the training photos, [N].
        classes: number of classes.
        power: 0: all photos count alike; 1: all classes count alike, however many photos they have.
    """
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    weights = counts.clip(1) ** -power
    return torch.from_numpy(weights * len(labels) / (weights * counts).sum()).float()
