"""The architectures, one module each: to add one, add `networks/NAME.py` and a recipe in params.yaml.

The module's name is the architecture's name, so that `ml.model.manifest` knows all names without torch. A
module in `networks/libraries` stands for all models of a library: their names are `LIBRARY/MODEL`.
"""

import dataclasses
import importlib
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import ClassVar, cast

import torch
from torch import Tensor, nn

from ml.model.errors import PipelineError
from ml.model.manifest import ARCH_NAMES, ARCHITECTURES, is_arch


class Network(nn.Module, ABC):
    """The interface of every architecture, which implements `head`, `map`, `pool` and `evidence`.

    Attributes:
        image_size: height and width of the photos that the architecture was designed for, in pixels.
        mean: per-channel mean of the inputs, which are scaled to 0..1 before.
        std: per-channel standard deviation of the inputs.
        dense: False if its blocks have depthwise convolutions, which gain nothing from bfloat16 on a CPU, or
            if that isn't known for each model of a library.
        pretrained: source and licence of the weights that `load_pretrained` loads; empty: there are none.
    """

    image_size: int = 224
    mean: tuple[float, float, float] = (0.0, 0.0, 0.0)
    std: tuple[float, float, float] = (1.0, 1.0, 1.0)
    dense: ClassVar[bool] = True
    pretrained: ClassVar[str] = ""

    @property
    @abstractmethod
    def head(self) -> nn.Linear:
        """The last layer, features to logits."""

    @abstractmethod
    def map(self, images: Tensor) -> Tensor:
        """Turn normalized images [N, 3, H, W] into a feature map [N, C, h, w]."""

    @abstractmethod
    def pool(self, features: Tensor) -> Tensor:
        """Turn a feature map [N, C, h, w] into features [N, D], which `head` turns into logits."""

    @abstractmethod
    def evidence(self, features: Tensor) -> Tensor:
        """Return [N, classes, h, w]: what each place of a feature map [N, C, h, w] contributes to each class.

        Usually `head` applied to each place. A bias of `head` may be left out: it is the same everywhere.
        """

    def embed(self, images: Tensor) -> Tensor:
        """Turn normalized images [N, 3, H, W] into features [N, D]."""
        return self.pool(self.map(images))

    def judge(self, images: Tensor, features: Tensor) -> Tensor:
        """Turn normalized images [N, 3, H, W] and their features [N, D] into logits [N, classes]."""
        return cast(Tensor, self.head(features))

    def forward(self, images: Tensor) -> Tensor:
        """Turn normalized images [N, 3, H, W] into logits [N, classes]."""
        return self.judge(images, self.embed(images))

    def load_pretrained(self) -> bool:
        """Load pretrained weights of the body; return False if the architecture has none."""
        return False

    def concepts(self) -> tuple[Tensor, Tensor] | None:
        """Return the head that was pretrained with the body, weight [K, D] and bias [K].

        None if there is none, or if the body has no pretrained weights: the head could not read its features.
        """
        return None


_CLASSES: dict[str, type[Network]] = {}


def register(name: str) -> Callable[[type[Network]], type[Network]]:
    """Decorate the class of an architecture in `networks/NAME.py`, or of a library in `libraries/NAME.py`."""

    def add(network: type[Network]) -> type[Network]:
        _CLASSES[name] = network
        return network

    return add


def network_class(arch: str) -> type[Network]:
    """Return the class of an architecture.

    Raises:
        PipelineError: there is no such architecture, or its module registers another name.
    """
    if not is_arch(arch):
        raise PipelineError(f"unknown architecture {arch!r}; there are {', '.join(ARCH_NAMES)}")
    name = arch.partition("/")[0]
    module = f"{__name__}.{name}" if arch in ARCHITECTURES else f"{__name__}.libraries.{name}"
    importlib.import_module(module)
    if name not in _CLASSES:
        raise PipelineError(f'{module} registers no {name!r}: write @register("{name}") above its class')
    return _CLASSES[name]


def build(arch: str, classes: int) -> Network:
    """Return a network with random weights for a number of classes; `FIRST+SECOND` is one for two looks.

    Raises:
        PipelineError: there is no such architecture, or its library is not installed or has no such model.
    """
    if is_arch(arch) and "+" in arch:
        from ml.model.two_looks import TwoLooks  # which imports this module

        return TwoLooks(*(build(each, classes) for each in arch.split("+")))
    network, model = network_class(arch), arch.partition("/")[2]
    return cast(Callable[..., Network], network)(classes, *([model] if model else []))


@dataclasses.dataclass(frozen=True)
class Normalization:
    """Turns pixels into network inputs: (x / 255 - mean) / std."""

    mean: tuple[float, ...]
    std: tuple[float, ...]

    def __call__(self, pixels: Tensor) -> Tensor:
        """Turn uint8 images [N, H, W, 3] into normalized float32 images [N, 3, H, W], channels last."""
        mean = torch.tensor(self.mean, device=pixels.device) * 255
        std = torch.tensor(self.std, device=pixels.device) * 255
        return ((pixels - mean) / std).permute(0, 3, 1, 2)
