"""The engine for plain checkpoints: runs the network with torch on the CPU."""

import numpy as np
import torch
from numpy.typing import NDArray

from app.inference.answers import Answers, fault
from ml.model.answering import restore
from ml.model.checkpoint import Checkpoint
from ml.model.errors import BundleError
from ml.model.manifest import Manifest


class TorchEngine:
    """A network in inference mode; several threads can use it because nothing writes to it."""

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, threads: int) -> None:
        """Build the network, fold BatchNorm into the convolutions, and run it once.

        Raises:
            BundleError: the weights don't fit the architecture, or the outputs aren't usable.
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
        except RuntimeError as error:  # the OOD score's weights are for other features
            raise BundleError(f"its weights don't fit each other: {_one_line(error)}") from error
        if problem := fault(answers, len(self.manifest.classes)):
            raise BundleError(f"its network {problem}")

    def answer(self, images: NDArray[np.uint8]) -> Answers:
        """Run the network on RGB pixels [N, image_size, image_size, 3]."""
        with torch.inference_mode():
            # Copies read-only pixels, for which torch would emit a warning.
            values = self._answering(torch.from_numpy(images if images.flags.writeable else images.copy()))
        probabilities, *known, evidence = (value.numpy() for value in values)
        return Answers(probabilities, known[0] if known else None, evidence)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())[:200]
