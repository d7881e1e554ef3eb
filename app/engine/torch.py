"""The engine for plain checkpoints: torch on the CPU, with what eager torch leaves undone done at load."""

import numpy as np
import torch
from numpy.typing import NDArray

from app.engine import Answers, fault
from ml.answering import restore
from ml.checkpoint import Checkpoint
from ml.errors import BundleError
from ml.manifest import Manifest


class TorchEngine:
    """A network in inference mode; safe from several threads, for nothing in it is written."""

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, threads: int) -> None:
        """Build the network, fold its BatchNorm into its convolutions, and run it once.

        Raises:
            BundleError: the weights don't fit the architecture, or its answers are of no use.
        """
        self.manifest: Manifest = checkpoint.manifest
        self.sha256: str = checkpoint.sha256
        self.card: str = checkpoint.card
        torch.set_num_threads(threads)
        self._answering = restore(checkpoint)
        self.outputs = ["probabilities", *(["known"] if self._answering.known else []), "evidence"]
        size = self.manifest.image_size
        try:
            answers = self.answer(np.zeros((1, size, size, 3), np.uint8))
        except RuntimeError as error:  # weights of `known` for other features
            raise BundleError(f"its weights don't fit each other: {_one_line(error)}") from error
        if found := fault(answers, len(self.manifest.classes)):
            raise BundleError(f"its network {found}")

    def answer(self, images: NDArray[np.uint8]) -> Answers:
        """Answer for RGB pixels [N, image_size, image_size, 3]."""
        with torch.inference_mode():
            # A copy only where the pixels are read-only, of which torch would warn.
            values = self._answering(torch.from_numpy(images if images.flags.writeable else images.copy()))
        probabilities, *known, evidence = (value.numpy() for value in values)
        return Answers(probabilities, known[0] if known else None, evidence)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
