"""The OOD score: from 0 to 1, whether a photo shows any of the classes, computed from the network's features.

It needs no out-of-distribution (OOD) photos. There are two methods, each a small module that becomes part of
the ONNX graph:

`Concepts`, for a body that was pretrained with a head, such as the one for ImageNet's 1,000 classes. The
training photos show which of the head's classes belong to the subject; the score is their share of the head's
answer, lowered by the distance from the training photos.

`Distance`, for a body trained from scratch: the distance of the features to the nearest class mean, under the
covariance within the classes (Lee et al. 2018, "A simple unified framework for detecting out-of-distribution
samples").
"""

from abc import ABC, abstractmethod
from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ml.model.errors import PipelineError
from ml.model.reference import COMPONENTS

TYPICAL = 0.99
"""Score of the median photo of the classes."""

_NEIGHBOURS = 20
"""ImageNet's classes are fine-grained: a dog of a breed that the training set lacks falls into a class beside
theirs. So each class counts by the mean over this many classes with the most similar weights in the head. For
123 breeds of dogs and cats, 97 % of the 10 nearest classes are dogs or cats too; for the other 877, 0.7 %."""

_WIDTH = 256
"""Directions of a pretrained head that are kept. Of ImageNet's 1,280, on cats and dogs against OOD photos,
with the distance: AUROC 0.9986 with 128, 0.9993 with 256, 0.9990 with 512, 0.9988 with 1,000."""

_DISTANCE_WEIGHT = 0.7
"""What one unit of the distance takes from the logit of the share. They detect different OOD photos: if 1 %
of the cats and dogs are rejected, 98.3 % of 583 others are detected by the share alone, 99.5 % with a weight
of 0.5, and 99.7 % with 0.7. For six kinds of waste, it raised the AUROC from 0.890 to 0.926."""

_MARGIN = 1e-4  # in logits: many photos may have exactly the score of the quantile, and they must pass
_MAX_SLOPE = 20.0
_EPSILON = 1e-6  # smallest distance from 0 and 1 that float32 can represent well


class OodScore(nn.Module, ABC):
    """Features [N, D] to scores [N], calibrated so that `THRESHOLD` separates; see `fit_calibration`."""

    edge: Tensor
    slope: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("edge", torch.zeros(()))
        self.register_buffer("slope", torch.ones(()))

    @abstractmethod
    def _whiten(self, features: Tensor) -> Tensor:
        """Features [N, D] to coordinates [N, W], in standard deviations of the training photos."""

    @abstractmethod
    def _uncalibrated(self, whitened: Tensor) -> Tensor:
        """Coordinates [N, W] to logits of scores [N], before the calibration: scores would saturate."""

    @abstractmethod
    def _components(self, whitened: Tensor) -> Tensor:
        """Coordinates [N, W] to principal components [N, up to `COMPONENTS`], see `with_components`."""

    def raw(self, features: Tensor) -> Tensor:
        """Features [N, D] to scores [N] between 0 and 1, before the calibration."""
        return self._uncalibrated(self._whiten(features)).sigmoid()

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, D] to scores [N]."""
        return self.with_components(features)[0]

    def with_components(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Features [N, D] to scores [N] and the first principal components [N, up to `COMPONENTS`].

        The components are in standard deviations of the training photos, with which the service compares
        them. They cost nothing: the score needs them anyway.
        """
        whitened = self._whiten(features)
        score = ((self._uncalibrated(whitened) - self.edge) * self.slope).sigmoid()
        return score, self._components(whitened)

    def calibrate(self, features: Tensor, rejected: float) -> None:
        """Calibrate on photos of the classes.

        Args:
            features: of the photos, [N, D].
            rejected: share of them that get a score below `THRESHOLD`.
        """
        with torch.inference_mode():
            edge, slope = _line(self._uncalibrated(self._whiten(features)).double().numpy(), rejected)
            self.edge.fill_(edge)
            self.slope.fill_(slope)


def fit_calibration(scores: NDArray[np.float64], rejected: float) -> tuple[float, float]:
    """Return an offset to subtract from the logits of scores, and a slope to multiply them with afterwards.

    The quantile `rejected` then gets the score `THRESHOLD`, and the median `TYPICAL`, so that scores of
    different methods mean the same.

    Args:
        scores: of photos of the classes, between 0 and 1, [N].
        rejected: share of them that get a score below `THRESHOLD`.
    """
    return _line(_logit(scores), rejected)


def _line(logits: NDArray[np.float64], rejected: float) -> tuple[float, float]:
    """Return what `fit_calibration` does, for scores that are given as logits."""
    edge, middle = np.quantile(logits, [rejected, 0.5])
    edge -= _MARGIN
    slope = min(float(_logit(np.array(TYPICAL))) / max(float(middle - edge), _MARGIN), _MAX_SLOPE)
    return float(edge), slope


def apply_calibration(scores: NDArray[np.float64], edge: float, slope: float) -> NDArray[np.float64]:
    """Return scores between 0 and 1, [N], calibrated as `OodScore` does it."""
    return np.asarray(1 / (1 + np.exp(np.clip((edge - _logit(scores)) * slope, -700, 700))))


def _logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(scores, 1e-12, 1 - 1e-12)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


def _logits(scores: Tensor) -> Tensor:
    clipped = scores.clamp(_EPSILON, 1 - _EPSILON)
    return clipped.log() - (1 - clipped).log()


class Concepts(OodScore):
    """The share of a pretrained head's answer that falls to classes which the training photos show.

    The distance from the training photos lowers it: the root mean square of the features' coordinates along
    the directions of the head, in standard deviations of the training photos.
    """

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        """Allocate it for features [N, inputs] and a head of `classes`, through `width` directions."""
        super().__init__()
        self.narrow = nn.Linear(inputs, width)
        self.head = nn.Linear(width, classes)
        self.register_buffer("support", torch.zeros(classes))
        self.register_buffer("distance_weight", torch.zeros(()))

    def _whiten(self, features: Tensor) -> Tensor:
        return cast(Tensor, self.narrow(features))

    def _uncalibrated(self, whitened: Tensor) -> Tensor:
        share = cast(Tensor, self.head(whitened)).softmax(1) @ cast(Tensor, self.support)
        distance = whitened.square().mean(1).sqrt()
        return _logits(share) - distance * cast(Tensor, self.distance_weight)

    def _components(self, whitened: Tensor) -> Tensor:
        return whitened[:, :COMPONENTS]  # those of the pretrained head's answers: `fit` sorts by strength

    @classmethod
    def fit(cls, features: Tensor, head: tuple[Tensor, Tensor]) -> "Concepts":
        """Learn from training photos which of the head's classes they show.

        Of the head, only the directions are kept in which the training photos' features differ most: a tenth
        of its numbers, for an equally good score.

        Args:
            features: of photos of all classes, [N, D].
            head: weight [K, D] and bias [K] that were pretrained with the body.
        """
        weight, bias = head
        with torch.no_grad():
            share = (features @ weight.T + bias).softmax(1).mean(0)
            shown = (share * len(share)).clamp(max=1.0)  # 1: as likely as under a uniform answer, or more
            weight = weight - weight.mean(0)  # a shift that is the same for all classes has no effect
            direction = nn.functional.normalize(weight, dim=1)
            nearest = (direction @ direction.T).topk(min(_NEIGHBOURS + 1, len(share)), dim=1).indices
            mean = features.mean(0)
            covariance = torch.from_numpy(_covariance(features.double()))
            root = torch.linalg.cholesky(covariance)
            left, strengths, right = _strongest(weight.double() @ root)
            narrow = torch.linalg.solve_triangular(root, right, upper=False, left=False)
            score = cls(weight.shape[1], len(strengths), len(share))
            score.narrow.weight.copy_(narrow)
            score.narrow.bias.copy_(-narrow @ mean.double())
            score.head.weight.copy_(left * strengths)
            score.head.bias.copy_(bias + weight @ mean)
            cast(Tensor, score.support).copy_(shown[nearest].mean(1))
            cast(Tensor, score.distance_weight).fill_(_DISTANCE_WEIGHT)
        return score


class Distance(OodScore):
    """How near the features are to those of the nearest class's training photos."""

    def __init__(self, means: Tensor, whitening: Tensor) -> None:
        """Take the whitened class means [classes, D] and the whitening matrix [D, D]."""
        super().__init__()
        self.register_buffer("means", means)
        self.register_buffer("whitening", whitening)

    def _whiten(self, features: Tensor) -> Tensor:
        return features @ cast(Tensor, self.whitening)

    def _uncalibrated(self, whitened: Tensor) -> Tensor:
        distances = (whitened[:, None] - cast(Tensor, self.means)[None]).square().mean(2)
        nearest = distances.min(1).values.clamp(min=_EPSILON)
        return -nearest - (1 - (-nearest).exp()).log()  # the logit of exp(-nearest)

    def _components(self, whitened: Tensor) -> Tensor:
        # The last directions have the largest eigenvalues. Whitening makes the variance within a class 1;
        # that of the class means is added to it.
        last, means = whitened[:, -COMPONENTS:], cast(Tensor, self.means)[:, -COMPONENTS:]
        return ((last - means.mean(0)) / (means.var(0, correction=0) + 1).sqrt()).flip(1)

    @classmethod
    def fit(cls, features: Tensor, labels: Tensor, classes: int) -> "Distance":
        """Fit it to the features [N, D] and labels [N] of training photos.

        The covariance is shrunk (Ledoit and Wolf 2004), because there may be fewer photos than features.
        """
        means = torch.stack([features[labels == number].mean(0) for number in range(classes)])
        residuals = (features - means[labels]).double()
        values, vectors = np.linalg.eigh(_covariance(residuals, assume_centered=True))
        # All directions are kept: OOD photos stand out in those in which the classes hardly vary.
        whitening = vectors / np.sqrt(np.maximum(values, 1e-12))
        matrix = torch.from_numpy(whitening).float()
        return cls(means @ matrix, matrix)


def _covariance(features: Tensor, assume_centered: bool = False) -> NDArray[np.float64]:
    """Return the covariance [D, D] of features float64 [N, D], shrunk (Ledoit and Wolf 2004).

    The inverse, which nobody reads, would take longer than that.
    """
    from sklearn.covariance import LedoitWolf

    fitted = LedoitWolf(store_precision=False, assume_centered=assume_centered).fit(features.numpy())
    return np.asarray(fitted.covariance_)


def _strongest(matrix: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the `_WIDTH` largest singular values [W] of a matrix [K, D], largest first, and their vectors.

    Returns:
        Left vectors [K, W], singular values, right vectors [W, D].
    """
    outputs, inputs = matrix.shape
    if not _WIDTH < outputs <= inputs:
        left, strengths, right = torch.linalg.svd(matrix, full_matrices=False)
        return left[:, :_WIDTH], strengths[:_WIDTH], right[:_WIDTH]
    # The same as eigenvectors of a symmetric matrix [K, K], in less than half of the time.
    left = torch.linalg.eigh(matrix @ matrix.T).eigenvectors[:, -_WIDTH:].flip(1)
    right = left.T @ matrix
    strengths = right.norm(dim=1)
    return left, strengths, right / strengths[:, None]


def load_score(method: str, state: Mapping[str, Tensor]) -> OodScore:
    """Return the module with a state_dict, ready for inference.

    Raises:
        PipelineError: there is no such method, or the tensors are not its own.
    """
    if method not in ("concepts", "distance"):
        raise PipelineError(f"unknown method {method!r:.40}, there are concepts, distance")
    try:
        if method == "concepts":
            (width, inputs), classes = state["narrow.weight"].shape, len(state["support"])
            if state["head.weight"].shape != (classes, width):  # before a layer of that size takes memory
                raise ValueError
            score: OodScore = Concepts(inputs, width, classes)
            state = {"distance_weight": torch.zeros(()), **state}  # older models don't use the distance
        else:
            score = Distance(state["means"], state["whitening"])
        score.load_state_dict(state)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise PipelineError(f"not the tensors of the method {method!r}") from error
    return score.eval().requires_grad_(False)
