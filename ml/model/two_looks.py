"""A network of two: a small one looks at every photo, a larger one only at those of which it is unsure.

This is a cascade of classifiers (Viola and Jones 2001; for networks, Wang et al. 2018, "IDK cascades"): most
photos are easy, so the mean cost is almost that of the small network.
"""

import torch
from torch import Tensor, nn
from torch.nn import functional

from ml.model.errors import PipelineError
from ml.model.networks import Network

FIRST_SIZE = 0.83
"""The first network sees the photos at this share of their height and width."""
SECOND_LOOKS = 0.04
"""Share of the photos like those of validation that get a second look."""
SECOND_WEIGHT = 2 / 3
"""Share of the second network in the logits of a photo that both have seen."""


class TwoLooks(Network):
    """Two networks as one: features, evidence and OOD score are the first one's.

    Attributes:
        sure_from: the smallest probability of the first network's answer that needs no second look, before
            any temperature. All photos get one until `fit` has chosen it.
    """

    sure_from: Tensor

    def __init__(self, first: Network, second: Network) -> None:
        """Join two networks of the same classes.

        Raises:
            PipelineError: they don't take their inputs alike.
        """
        super().__init__()
        if (first.mean, first.std) != (second.mean, second.std):
            raise PipelineError("the networks of first and second look need the same mean and std of inputs")
        self.first, self.second = first, second
        self.image_size, self.mean, self.std = second.image_size, second.mean, second.std
        self.register_buffer("sure_from", torch.tensor(torch.inf))

    @property
    def head(self) -> nn.Linear:
        """The last layer of the first network."""
        return self.first.head

    def map(self, images: Tensor) -> Tensor:
        """Return the first network's feature map of normalized images [N, 3, H, W]."""
        return self.first.map(shrink(images, first_size(images.shape[-1])))

    def pool(self, features: Tensor) -> Tensor:
        """Return the first network's features [N, D] of its feature map."""
        return self.first.pool(features)

    def evidence(self, features: Tensor) -> Tensor:
        """Return the first network's evidence."""
        return self.first.evidence(features)

    def judge(self, images: Tensor, features: Tensor) -> Tensor:
        """Return logits [N, classes]: the first network's; for unsure photos, the weighted mean of both."""
        logits = self.first.judge(images, features)
        unsure = (logits.softmax(1).amax(1) < self.sure_from).nonzero()[:, 0]
        if torch.compiler.is_exporting():
            torch._check(unsure.shape[0] > 0)  # for the exporter only: the exported model takes none, too
        # Not a sum of two terms, which would be quantized.
        both = [(1 - SECOND_WEIGHT) * logits[unsure], SECOND_WEIGHT * self.second(images[unsure])]
        return logits.index_put((unsure,), torch.stack(both).sum(0))

    def fit(self, features: Tensor) -> None:
        """Choose `sure_from`: of photos with these features [N, D], `SECOND_LOOKS` get a second look."""
        with torch.inference_mode():
            surest = self.head(features.to(self.sure_from.device)).softmax(1).amax(1)
            self.sure_from.fill_(surest.double().quantile(SECOND_LOOKS))

    def load_pretrained(self) -> bool:
        """Load the pretrained weights of both bodies; return whether both have some."""
        return all([self.first.load_pretrained(), self.second.load_pretrained()])

    def concepts(self) -> tuple[Tensor, Tensor] | None:
        """Return the head that was pretrained with the first body."""
        return self.first.concepts()


def first_size(size: int) -> int:
    """Return the height and width at which the first network sees photos of a height and width."""
    return round(FIRST_SIZE * size)


def shrink(images: Tensor, size: int) -> Tensor:
    """Make float images [N, C, H, W] smaller, [N, C, size, size], as ONNX's Resize does."""
    return functional.interpolate(images, size=(size, size), mode="bilinear", align_corners=False)
