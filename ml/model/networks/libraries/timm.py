"""Models of timm, "PyTorch Image Models", which is an optional package."""

import logging
import math
from typing import Any, cast

import torch
from torch import Tensor, nn

from ml.model.errors import PipelineError, one_line
from ml.model.networks import Network, register
from ml.model.networks.libraries import no_weights


@register("timm")
class TimmNetwork(Network):
    """A model of timm that classifies photos. Its weights are downloaded when they are first needed.

    A feature map is kept with its channels first. Of a transformer without such a map, it holds the tokens:
    [N, C, tokens, 1].
    """

    dense = False
    pretrained = "timm's default weights (huggingface.co/timm states their licence)"

    def __init__(self, classes: int, model: str) -> None:
        """Build it with random weights.

        Raises:
            PipelineError: timm is not installed or has no such model, or its features have an unknown form.
        """
        super().__init__()
        self._model = model
        self.body = self._create(num_classes=0)
        defaults = self.body.pretrained_cfg
        self.mean, self.std, self.image_size = defaults["mean"], defaults["std"], defaults["input_size"][-1]
        self._prefix = getattr(self.body, "num_prefix_tokens", 0)
        self._channels_last = getattr(self.body, "output_fmt", "") == "NHWC"
        self._are_tokens = False
        try:
            with torch.no_grad():
                features = self.body.eval().forward_features(torch.zeros(1, *defaults["input_size"]))
                self._are_tokens = features.ndim == 3
                features = self._to_map(features)
                self.classifier = nn.Linear(self.pool(features).shape[1], classes)
                self.evidence(features)
        except (AssertionError, AttributeError, IndexError, RuntimeError, TypeError, ValueError) as error:
            raise PipelineError(f"timm/{model} cannot be used: its features have an unknown form") from error
        self.body.train()

    @property
    def head(self) -> nn.Linear:
        """The last layer."""
        return self.classifier

    def map(self, images: Tensor) -> Tensor:
        """Images [N, 3, H, W] to a feature map [N, C, h, w]."""
        return self._to_map(self.body.forward_features(images))

    def pool(self, features: Tensor) -> Tensor:
        """Feature map to features [N, D]."""
        if self._are_tokens:
            features = features.flatten(2).transpose(1, 2)
        elif self._channels_last:
            features = features.permute(0, 2, 3, 1)
        return cast(Tensor, self.body.forward_head(features, pre_logits=True))

    def evidence(self, features: Tensor) -> Tensor:
        """Feature map to [N, classes, h, w]: the layers after it applied to each place alone."""
        count, channels, height, width = features.shape
        copies = 1
        if self._are_tokens:  # each one also stands in for the class token and the like
            height = width = math.isqrt(height - self._prefix)
            features, copies = features[:, :, self._prefix :], self._prefix + 1
        places = features.flatten(2).transpose(1, 2).reshape(-1, channels, 1, 1).expand(-1, -1, copies, -1)
        logits = self.classifier(self.pool(places))
        return cast(Tensor, logits.reshape(count, height, width, -1).permute(0, 3, 1, 2))

    def load_pretrained(self) -> bool:
        """Load the weights of the body.

        Raises:
            PipelineError: they cannot be downloaded.
        """
        self.body.load_state_dict(self._pretrained_body(num_classes=0).state_dict())
        return True

    def concepts(self) -> tuple[Tensor, Tensor] | None:
        """Return the head that was pretrained with the body, weight [K, D] and bias [K], or None.

        Raises:
            PipelineError: the weights cannot be downloaded.
        """
        last = self._pretrained_body().get_classifier()
        if not isinstance(last, nn.Linear) or last.in_features != self.classifier.in_features:
            return None
        bias = torch.zeros(last.out_features) if last.bias is None else last.bias
        return last.weight.detach(), bias.detach()

    def _create(self, **options: Any) -> Any:
        try:
            import timm
        except ImportError as error:
            raise PipelineError(
                "timm is not installed: run `make dev`, or install the version in requirements-dev.txt"
            ) from error
        if not timm.is_model(self._model):
            raise PipelineError(
                f"timm has no model {self._model}: "
                '`python -c "import timm; print(timm.list_models(pretrained=True))"` lists its models'
            )
        try:
            return timm.create_model(self._model, **options)
        except RuntimeError as error:
            raise PipelineError(f"timm cannot build {self._model}: {one_line(str(error))}") from error

    def _pretrained_body(self, **options: Any) -> Any:
        try:
            logging.getLogger("huggingface_hub").setLevel(logging.ERROR)  # it reports each of its retries
            return self._create(pretrained=True, **options)
        except Exception as error:  # no weights, network, disk, a damaged file: of many libraries
            raise no_weights(f"timm/{self._model}", error) from error

    def _to_map(self, features: Tensor) -> Tensor:
        if self._are_tokens:
            return features.transpose(1, 2)[..., None]
        return features.permute(0, 3, 1, 2) if self._channels_last else features
