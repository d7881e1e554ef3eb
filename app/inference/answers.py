"""What a network answers, the same for every engine."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True, slots=True)
class Answers:
    """A network's outputs for N images.

    Attributes:
        probabilities: float32 [N, classes].
        known: float32 [N], OOD score, from 0 (the image shows none of the classes) to 1; None: the model has
            none.
        evidence: float32 [N, classes, h, w], the evidence at each place for each class; None: the model has
            none.
    """

    probabilities: NDArray[np.float32]
    known: NDArray[np.float32] | None = None
    evidence: NDArray[np.float32] | None = None


def fault(answers: Answers, classes: int) -> str:
    """Return what is wrong with the outputs for one image; empty: nothing. Checks a model at load."""
    probabilities, known = answers.probabilities, answers.known
    if probabilities.shape != (1, classes) or not abs(float(probabilities.sum()) - 1) < 1e-3:
        return f"returns no probabilities (shape {probabilities.shape})"
    if known is not None and not (known.shape == (1,) and -1e-3 < float(known[0]) < 1 + 1e-3):
        return f"returns an OOD score (known) that is not from 0 to 1: {known}"
    return ""
