"""The engine for plain checkpoints: runs the network with torch on the CPU."""

import numpy as np
import torch
from numpy.typing import NDArray

from app.inference.engine import Answers, Engine
from ml.model.answering import restore
from ml.model.checkpoint import Checkpoint


class TorchEngine(Engine):
    """A network in inference mode; several threads can use it because nothing writes to it."""

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, threads: int) -> None:
        """Build the network, fold BatchNorm into the convolutions, and run it once.

        Raises:
            BundleError: the weights don't fit the architecture or each other, or the outputs aren't usable.
        """
        super().__init__(checkpoint)
        torch.set_num_threads(threads)
        self._answering = restore(checkpoint)
        self.outputs = [
            "probabilities",
            *(["known", "components"] if self._answering.known else []),
            "evidence",
        ]
        self.warm_up()

    def answer(self, images: NDArray[np.uint8], evidence: bool = True) -> Answers:
        """Run the network; see `Engine`. The evidence costs this engine next to nothing."""
        with torch.inference_mode():
            # Copies read-only pixels, for which torch would emit a warning.
            values = self._answering(torch.from_numpy(images if images.flags.writeable else images.copy()))
        return Answers(**dict(zip(self.outputs, (value.numpy() for value in values), strict=True)))
