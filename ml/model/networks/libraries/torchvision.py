"""Models of torchvision."""

from collections import OrderedDict
from typing import Any, cast

import torch
import torchvision.models
from torch import Tensor, nn

from ml.model.errors import PipelineError
from ml.model.networks import Network, register
from ml.model.networks.libraries import no_weights


@register("torchvision")
class TorchvisionNetwork(Network):
    """A model of torchvision whose layers run one after the other, with global average pooling near the end.

    These are, for example, ResNet, RegNet, ConvNeXt, EfficientNet, MobileNet and Swin. Its weights are the
    best that torchvision offers for it; they are downloaded when they are first needed.
    """

    dense = False
    pretrained = "torchvision's default weights (BSD-3-Clause)"

    def __init__(self, classes: int, model: str) -> None:
        """Build it with random weights.

        Raises:
            PipelineError: torchvision has no such model, or it is of another kind.
        """
        super().__init__()
        try:
            self._weights: Any = torchvision.models.get_model_weights(model).DEFAULT
            body = torchvision.models.get_model(model, weights=None)
        except (ValueError, AttributeError) as error:
            raise PipelineError(
                f"torchvision has no model {model}: "
                '`python -c "from torchvision import models; print(models.list_models(module=models))"` '
                "lists its models"
            ) from error
        self._model = model
        try:
            transforms = self._weights.transforms()
            (self.image_size,), self.mean, self.std = (
                transforms.crop_size, tuple(transforms.mean), tuple(transforms.std)
            )  # fmt: skip
            self.layers, self.neck, last = _split(body)
            self.classifier = nn.Linear(last.in_features, classes)
            _check_split(body, self, last)
        except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise PipelineError(
                f"torchvision/{model} cannot be used: its layers don't run one after the other, with global "
                "average pooling and a linear layer at the end; timm may have it"
            ) from error

    @property
    def head(self) -> nn.Linear:
        """The last layer."""
        return self.classifier

    def map(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] to a feature map [N, C, h, w]."""
        return cast(Tensor, self.layers(images))

    def pool(self, features: Tensor) -> Tensor:
        """Feature map to features [N, D]."""
        return cast(Tensor, self.neck(features.mean((2, 3), keepdim=True)))

    def evidence(self, features: Tensor) -> Tensor:
        """Feature map to [N, classes, h, w]: the layers after the pooling applied to each place alone."""
        count, channels, height, width = features.shape
        places = features.permute(0, 2, 3, 1).reshape(-1, channels, 1, 1)
        logits = self.classifier(self.neck(places))
        return cast(Tensor, logits.reshape(count, height, width, -1).permute(0, 3, 1, 2))

    def load_pretrained(self) -> bool:
        """Load the weights of the body.

        Raises:
            PipelineError: they cannot be downloaded.
        """
        layers, neck, _ = _split(self._pretrained_body())
        self.layers.load_state_dict(layers.state_dict())
        self.neck.load_state_dict(neck.state_dict())
        return True

    def concepts(self) -> tuple[Tensor, Tensor]:
        """Return the head that was pretrained with the body, weight [1000, D] and bias [1000].

        Raises:
            PipelineError: the weights cannot be downloaded.
        """
        _, _, last = _split(self._pretrained_body())
        return last.weight.detach(), last.bias.detach()

    def _pretrained_body(self) -> nn.Module:
        body = torchvision.models.get_model(self._model, weights=None)
        try:
            weights = self._weights.get_state_dict(progress=True, check_hash=True, weights_only=True)
            body.load_state_dict(weights)
        except Exception as error:  # network, disk, checksum, a damaged file: of many libraries
            raise no_weights(f"torchvision/{self._model}", error) from error
        return cast(nn.Module, body)


def _split(body: nn.Module) -> tuple[nn.Sequential, nn.Sequential, nn.Linear]:
    """Return the layers before the pooling, those between the pooling and the last one, and the last one."""
    children = OrderedDict(body.named_children())
    _, end = children.popitem()
    neck = list(end) if isinstance(end, nn.Sequential) else [end]
    last = cast(nn.Linear, neck.pop())
    if not any(isinstance(module, nn.Flatten) for module in neck):
        neck.insert(0, nn.Flatten())
    while isinstance(next(reversed(children.values())), nn.AdaptiveAvgPool2d | nn.Flatten):
        children.popitem()
    return nn.Sequential(children), nn.Sequential(*neck), last


def _check_split(body: nn.Module, network: TorchvisionNetwork, last: nn.Linear) -> None:
    """Raise ValueError unless the network computes what the body does."""
    images = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        expected, actual = body.eval()(images), last(network.eval().embed(images))
    network.train()
    if expected.shape != actual.shape or not (
        expected.is_meta or torch.allclose(expected, actual, atol=1e-4)
    ):
        raise ValueError("it computes something else")
