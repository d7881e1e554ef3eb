"""The baseline architecture."""

import itertools
from typing import ClassVar, cast

from torch import Tensor, nn

from ml.model.networks import Network, register


@register("simple_cnn")
class SimpleCNN(Network):
    """A four-block CNN trained from scratch: 3-32-64-128-256 channels, global average pooling.

    Its layers are named and ordered as in existing checkpoints. Other architectures are free to differ.
    """

    batch_norm: ClassVar[bool] = True

    def __init__(self, classes: int) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = (3, 32, 64, 128, 256)
        for block, (inputs, outputs) in enumerate(itertools.pairwise(channels)):
            layers.append(nn.Conv2d(inputs, outputs, 3, padding=1))
            if self.batch_norm:
                layers.append(nn.BatchNorm2d(outputs))
            layers.append(nn.ReLU(inplace=True))
            if block < 3:
                layers.append(nn.MaxPool2d(2))
        self.features = nn.Sequential(*layers, nn.AdaptiveAvgPool2d(1))
        self.classifier = nn.Sequential(
            nn.Flatten(), nn.Linear(256, 128), nn.ReLU(inplace=True), nn.Dropout(0.5), nn.Linear(128, classes)
        )
        for module in self.modules():  # He et al. 2015, "Delving deep into rectifiers"
            if isinstance(module, nn.Conv2d | nn.Linear):
                nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                nn.init.zeros_(cast(nn.Parameter, module.bias))

    @property
    def head(self) -> nn.Linear:
        """The last layer."""
        return cast(nn.Linear, self.classifier[4])

    def map(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] to a feature map [N, 256, H / 8, W / 8]."""
        return cast(Tensor, self.features[:-1](images))

    def pool(self, features: Tensor) -> Tensor:
        """Feature map to features [N, 128]."""
        return cast(Tensor, self.classifier[:4](self.features[-1](features)))

    def evidence(self, features: Tensor) -> Tensor:
        """Feature map to [N, classes, h, w]: the classifier applied to each place alone."""
        return cast(Tensor, self.classifier[1:](features.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)
