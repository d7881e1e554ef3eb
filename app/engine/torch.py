"""The engine for plain checkpoints: torch on the CPU, with what eager torch leaves undone done at load."""

import copy
import itertools
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ml.bundle import BundleError, Manifest
from ml.checkpoint import Checkpoint
from ml.errors import PipelineError
from ml.networks import Network, Normalization, build


class TorchEngine:
    """A network in inference mode; safe from several threads, for nothing in it is written."""

    name = "torch"

    def __init__(self, checkpoint: Checkpoint, threads: int) -> None:
        """Build the network, fold its BatchNorm into its convolutions, and run it once.

        Raises:
            BundleError: the weights don't fit the architecture, or its answer is no distribution.
        """
        self.manifest: Manifest = checkpoint.manifest
        self.sha256: str = checkpoint.sha256
        torch.set_num_threads(threads)
        try:
            network = build(self.manifest.arch, len(self.manifest.classes))
            network.load_state_dict(checkpoint.state_dict)
        except (PipelineError, RuntimeError) as error:
            line = " ".join(str(error).split())[:200]
            raise BundleError(f"its weights don't fit {self.manifest.arch}: {line}") from error
        self._network = prepare(network)
        self._normalize = Normalization(self.manifest.mean, self.manifest.std)
        size = self.manifest.image_size
        answer = self.predict(np.zeros((1, size, size, 3), np.uint8))
        if not abs(float(answer.sum()) - 1) < 1e-3:
            raise BundleError("its weights answer no probabilities")

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities [N, classes] for RGB pixels [N, image_size, image_size, 3]."""
        with torch.inference_mode():
            # A copy only where the pixels are read-only, of which torch would warn.
            pixels = torch.from_numpy(images if images.flags.writeable else images.copy())
            logits = self._network(self._normalize(pixels)) / self.manifest.temperature
            return cast(NDArray[np.float32], cast(Tensor, logits).softmax(1).numpy())


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
