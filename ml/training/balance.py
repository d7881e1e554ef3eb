"""Class balancing: 0 leaves the frequencies of the classes as they are; 1 makes all classes count equally.

With 594 photos of one class and 20 of the other, showing photos more often, augmented differently each time,
was better than weights in the loss. The head that is fitted to features sees no augmentation, so there a
weight does the same.
"""

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor


def class_weights(labels: NDArray[np.int64], classes: int, balance: float) -> Tensor:
    """Return the weight of each class, float32 [classes], for labels [N]; the mean over the photos is 1."""
    counts = np.bincount(labels, minlength=classes).astype(np.float64)
    weights = counts.clip(1) ** -balance
    return torch.from_numpy(weights * len(labels) / (weights * counts).sum()).float()


def epoch_rows(
    rows: NDArray[np.int64], labels: NDArray[np.int64], balance: float, random: np.random.Generator
) -> NDArray[np.int64]:
    """Return the rows of one epoch in random order, about as many as there are.

    Rows of classes with few photos are repeated, each of them about equally often. Of the other classes, some
    are left out, others in each epoch.

    Args:
        rows: of the training photos, [N].
        labels: their labels, [N].
        balance: see above.
        random: chooses and shuffles.
    """
    if balance == 0:
        return random.permutation(rows)
    classes = int(labels.max()) + 1
    counts = np.bincount(labels, minlength=classes)
    # The ends are rounded, not the numbers: with many classes, their sum could be a batch too small.
    weights = class_weights(labels, classes, balance).double().numpy()
    wanted = np.diff(np.rint(np.cumsum(counts * weights)).astype(int), prepend=0).clip(1)
    drawn = []
    for number in np.flatnonzero(counts):
        own, rounds = rows[labels == number], -(-wanted[number] // counts[number])
        drawn.append(np.concatenate([random.permutation(own) for _ in range(rounds)])[: wanted[number]])
    return random.permutation(np.concatenate(drawn))
