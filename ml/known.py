"""Whether a photo shows any of the classes: a score from 0 to 1, on the features that the label comes from.

No photo of anything else is needed. Two methods, each a small module that becomes part of the ONNX graph:

`Concepts`, for a body that came with a head of its own, such as ImageNet's of 1,000 classes. The training
photos tell which of those classes show what the set is about; the score is their share of that head's answer.

`Distance`, for a body trained from scratch: how far the features are from the nearest class's mean, by the
covariance within the classes (Lee et al. 2018, "A simple unified framework for detecting out-of-distribution
samples").
"""

from collections.abc import Mapping
from typing import cast

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ml.errors import PipelineError

THRESHOLD = 0.5
"""Scores are set so that this separates; `model.pt` states it all the same."""

_NEIGHBOURS = 20
"""ImageNet's classes are fine, and a dog of a breed that the training set lacks is of a class beside theirs:
each counts by the mean over so many whose weights in the head are most like its own. Of 123 breeds of dogs
and cats, 97 % of the 10 nearest are dogs or cats too; of the other 877 classes, 0.7 %."""


TYPICAL = 0.99
"""Score of the middle one of the photos of the classes."""
_HAIR = 1e-4  # in logits: photos that are just at the quantile, which may be many, are let pass
_STEEPEST = 20.0
_EDGE = 1e-6  # where float32 still tells a score from 0 and 1


_WIDTH = 128
"""Directions of a pretrained head that are kept. Of ImageNet's 1,280, on cats and dogs against photos of
something else: AUROC 0.9984 with 64, 0.9991 with 128, 0.9993 with 256, 0.9985 with all."""


class Known(nn.Module):
    """Features [N, D] to scores [N]; their logits are moved so that `THRESHOLD` separates."""

    edge: Tensor
    slope: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("edge", torch.zeros(()))
        self.register_buffer("slope", torch.ones(()))

    def raw(self, features: Tensor) -> Tensor:
        """Features [N, D] to scores [N] between 0 and 1, before they are moved."""
        raise LookupError(f"{type(self).__name__} has no score")

    def forward(self, features: Tensor) -> Tensor:
        """Features [N, D] to scores [N]."""
        raw = self.raw(features).clamp(_EDGE, 1 - _EDGE)
        return ((raw.log() - (1 - raw).log() - self.edge) * self.slope).sigmoid()

    def calibrate(self, features: Tensor, refused: float) -> None:
        """Move the scores by what photos of the classes get, by their features [N, D]: see `line_for`."""
        with torch.inference_mode():
            edge, slope = line_for(self.raw(features).double().numpy(), refused)
            self.edge.fill_(edge)
            self.slope.fill_(slope)


def line_for(scores: NDArray[np.float64], refused: float) -> tuple[float, float]:
    """Return what is taken from the logits of scores between 0 and 1, [N], and what multiplies them then.

    So that quantile gets `THRESHOLD` and the median `TYPICAL`: a score reads alike whatever it was made of.
    """
    edge, middle = _logit(np.quantile(scores, [refused, 0.5]))
    edge -= _HAIR
    slope = min(float(_logit(np.array(TYPICAL))) / max(float(middle - edge), _HAIR), _STEEPEST)
    return float(edge), slope


def moved(scores: NDArray[np.float64], edge: float, slope: float) -> NDArray[np.float64]:
    """Move scores between 0 and 1, [N], as `Known` does."""
    return np.asarray(1 / (1 + np.exp(np.clip((edge - _logit(scores)) * slope, -700, 700))))


def _logit(scores: NDArray[np.float64]) -> NDArray[np.float64]:
    clipped = np.clip(scores, 1e-12, 1 - 1e-12)
    return np.asarray(np.log(clipped) - np.log1p(-clipped))


class Concepts(Known):
    """The share of a pretrained head's answer that falls to what the training photos show."""

    def __init__(self, inputs: int, width: int, classes: int) -> None:
        """Make it for features [N, inputs] and a head of so many classes, by way of `width` numbers."""
        super().__init__()
        self.narrow = nn.Linear(inputs, width)
        self.head = nn.Linear(width, classes)
        self.register_buffer("support", torch.zeros(classes))

    def raw(self, features: Tensor) -> Tensor:
        """Features [N, D] to scores [N]."""
        return cast(Tensor, self.head(self.narrow(features))).softmax(1) @ cast(Tensor, self.support)

    @classmethod
    def fit(cls, features: Tensor, head: tuple[Tensor, Tensor]) -> "Concepts":
        """Learn from the features [N, D] of training photos which of the head's classes they show.

        The head is kept to the directions in which it tells most of the training photos' features apart:
        a tenth of its numbers, and as good a score.

        Args:
            features: of photos of all the classes.
            head: weight [K, D] and bias [K] that came with the body.
        """
        from sklearn.covariance import LedoitWolf

        weight, bias = head
        with torch.no_grad():
            share = (features @ weight.T + bias).softmax(1).mean(0)
            shown = (share * len(share)).clamp(max=1.0)  # as much as if all were equally likely, or more
            weight = weight - weight.mean(0)  # what is the same for all classes doesn't count
            direction = nn.functional.normalize(weight, dim=1)
            nearest = (direction @ direction.T).topk(min(_NEIGHBOURS + 1, len(share)), dim=1).indices
            mean = features.mean(0)
            spread = torch.from_numpy(LedoitWolf().fit(features.double().numpy()).covariance_)
            root = torch.linalg.cholesky(spread)
            left, strengths, right = torch.linalg.svd(weight.double() @ root, full_matrices=False)
            width = min(_WIDTH, len(strengths))
            narrow = torch.linalg.solve_triangular(root, right[:width], upper=False, left=False)
            known = cls(weight.shape[1], width, len(share))
            known.narrow.weight.copy_(narrow)
            known.narrow.bias.copy_(-narrow @ mean.double())
            known.head.weight.copy_(left[:, :width] * strengths[:width])
            known.head.bias.copy_(bias + weight @ mean)
            cast(Tensor, known.support).copy_(shown[nearest].mean(1))
        return known


class Distance(Known):
    """How near the features are to what those of some class's training photos were."""

    def __init__(self, means: Tensor, whitening: Tensor) -> None:
        """Take the classes' means [classes, D] and a matrix [D, D] after which distances are plain ones."""
        super().__init__()
        self.register_buffer("means", means)
        self.register_buffer("whitening", whitening)

    def raw(self, features: Tensor) -> Tensor:
        """Features [N, D] to scores [N]."""
        places = features @ cast(Tensor, self.whitening)
        away = (places[:, None] - cast(Tensor, self.means)[None]).square().mean(2)
        return (-away.min(1).values).exp()

    @classmethod
    def fit(cls, features: Tensor, labels: Tensor, classes: int) -> "Distance":
        """Learn from the features [N, D] and labels [N] of training photos.

        The covariance is shrunk (Ledoit and Wolf 2004), since the photos may be fewer than the features.
        """
        from sklearn.covariance import LedoitWolf

        means = torch.stack([features[labels == number].mean(0) for number in range(classes)])
        residuals = (features - means[labels]).double().numpy()
        values, vectors = np.linalg.eigh(LedoitWolf(assume_centered=True).fit(residuals).covariance_)
        # All directions: those in which the classes hardly vary are the ones that give strangers away.
        whitening = vectors / np.sqrt(np.maximum(values, 1e-12))
        matrix = torch.from_numpy(whitening).float()
        return cls(means @ matrix, matrix)


METHODS: dict[str, type[Known]] = {"concepts": Concepts, "distance": Distance}


def rebuild(method: str, state: Mapping[str, Tensor]) -> Known:
    """Make the module whose `state_dict` that is.

    Raises:
        PipelineError: there is no such method, or it has other tensors.
    """
    if method not in METHODS:
        raise PipelineError(f"unknown method {method!r:.40}, known are {', '.join(METHODS)}")
    try:
        if method == "concepts":
            width, inputs = state["narrow.weight"].shape
            known: Known = Concepts(inputs, width, len(state["support"]))
        else:
            known = Distance(state["means"], state["whitening"])
        known.load_state_dict(state)
    except (KeyError, IndexError, ValueError, RuntimeError) as error:
        raise PipelineError(f"not the tensors of the method {method!r}") from error
    return known.eval().requires_grad_(False)
