"""The baseline architecture of older checkpoints."""

from ml.model.networks import register
from ml.model.networks.simple_cnn import SimpleCNN


@register("simple_cnn_legacy")
class SimpleCNNLegacy(SimpleCNN):
    """The baseline without BatchNorm."""

    batch_norm = False
