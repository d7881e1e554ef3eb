"""A network with all that an answer takes: what the ONNX twin is made from, and the torch engine runs."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml.known import Known
from ml.networks import Network, Normalization

GRID = 7
"""Height and width of `evidence` where the network's own map is a multiple of it."""


class Answering(nn.Module):
    """A network from uint8 pixels [N, H, W, 3] to all that an answer takes, from one pass."""

    temperature: Tensor

    def __init__(self, network: Network, temperature: float, known: Known | None = None) -> None:
        super().__init__()
        self.network = network
        self.normalize = Normalization(network.mean, network.std)
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.known = known

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Answer for each image.

        Returns:
            probabilities [N, classes]; with a `known`, its score [N]; and the evidence [N, classes, h, w],
            what each place says for each class.
        """
        features = self.network.map(self.normalize(image.float()))
        pooled = self.network.pool(features)
        probabilities = (self.network.head(pooled) / self.temperature).softmax(1)
        evidence = self.network.evidence(features)
        if (size := max(1, evidence.shape[-1] // GRID)) > 1:
            evidence = functional.avg_pool2d(evidence, size)
        return (probabilities, *([self.known(pooled)] if self.known else []), evidence)
