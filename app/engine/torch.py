"""The engine for plain checkpoints: torch on the CPU, with what eager torch leaves undone done at load."""

import copy
import itertools

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from app.engine import Answers, fault
from ml.answering import Answering
from ml.bundle import BundleError, Manifest
from ml.checkpoint import Checkpoint
from ml.errors import PipelineError
from ml.known import rebuild
from ml.networks import Network, Normalization, build


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
        try:
            network = build(self.manifest.arch, len(self.manifest.classes))
            network.load_state_dict(checkpoint.state_dict)
            known = None
            if checkpoint.known_state_dict and self.manifest.known:
                known = rebuild(str(self.manifest.known["method"]), checkpoint.known_state_dict)
        except (PipelineError, RuntimeError) as error:
            raise BundleError(f"its weights don't fit {self.manifest.arch}: {_one_line(error)}") from error
        self._answering = Answering(prepare(network), self.manifest.temperature, known)
        self.outputs = ["probabilities", *(["known"] if known else []), "evidence"]
        self._answering.normalize = Normalization(self.manifest.mean, self.manifest.std)
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


def prepare(network: Network) -> Network:
    """Return a copy for inference on a CPU: BatchNorm folded (same function, fewer passes), channels last."""
    ready = copy.deepcopy(network).eval()
    for module in list(ready.modules()):
        if isinstance(module, nn.Sequential):
            for first, second in itertools.pairwise(range(len(module))):
                convolution, norm = module[first], module[second]
                if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module[first] = fuse_conv_bn_eval(convolution, norm)
                    module[second] = nn.Identity()
    return ready.requires_grad_(False).to(memory_format=torch.channels_last)
