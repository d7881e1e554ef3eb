"""A network with everything from pixels to outputs; exported to ONNX, and run by the torch engine."""

import copy
import itertools

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from ml.model.checkpoint import Checkpoint
from ml.model.errors import BundleError, PipelineError, one_line
from ml.model.networks import Network, Normalization, build
from ml.model.ood import OodScore, load_score

GRID = 7
"""Height and width of `evidence`, if those of the network's feature map are a multiple of it."""


class Answering(nn.Module):
    """A module from uint8 pixels [N, H, W, 3] to all outputs, in one pass."""

    temperature: Tensor

    def __init__(self, network: Network, temperature: float, known: OodScore | None = None) -> None:
        super().__init__()
        self.network = network
        self.normalize = Normalization(network.mean, network.std)
        self.register_buffer("temperature", torch.tensor(float(temperature)))
        self.known = known

    def forward(self, image: Tensor) -> tuple[Tensor, ...]:
        """Return the probabilities [N, classes], the outputs of `known` if there is one, and the evidence.

        `known` gives the OOD scores [N] and the principal components [N, C], see `OodScore.with_components`.
        The evidence [N, classes, h, w] is what each place of the image contributes to each class.
        """
        images = self.normalize(image.float())
        features = self.network.map(images)
        pooled = self.network.pool(features)
        probabilities = (self.network.judge(images, pooled) / self.temperature).softmax(1)
        evidence = self.network.evidence(features)
        if (size := max(1, evidence.shape[-1] // GRID)) > 1:
            evidence = functional.avg_pool2d(evidence, size)
        return (probabilities, *(self.known.with_components(pooled) if self.known else ()), evidence)


def restore(checkpoint: Checkpoint) -> Answering:
    """Build the network of a checkpoint, ready for inference on a CPU.

    Raises:
        BundleError: the weights do not fit the architecture, or each other.
    """
    manifest = checkpoint.manifest
    try:
        with torch.device("meta"):  # a file that names a huge model costs no memory
            build(manifest.arch, len(manifest.classes)).load_state_dict(checkpoint.state_dict, assign=True)
        network = build(manifest.arch, len(manifest.classes))
        network.load_state_dict(checkpoint.state_dict)
        known = None
        if checkpoint.known_state_dict and manifest.known:
            known = load_score(str(manifest.known["method"]), checkpoint.known_state_dict)
    except (PipelineError, RuntimeError) as error:
        raise BundleError(f"its weights do not fit {manifest.arch}: {one_line(str(error), 200)}") from error
    answering = Answering(prepare(network), manifest.temperature, known)
    answering.normalize = Normalization(manifest.mean, manifest.std)
    return answering


def prepare(network: Network) -> Network:
    """Return a copy for inference on a CPU: BatchNorm folded into the convolutions, channels last."""
    ready = copy.deepcopy(network).eval()
    for module in list(ready.modules()):
        if isinstance(module, nn.Sequential):
            for first, second in itertools.pairwise(range(len(module))):
                convolution, norm = module[first], module[second]
                if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module[first] = fuse_conv_bn_eval(convolution, norm)
                    module[second] = nn.Identity()
    return ready.requires_grad_(False).to(memory_format=torch.channels_last)
