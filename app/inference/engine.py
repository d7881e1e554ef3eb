"""The interface of the runtimes (engines): what a loaded network has, and what it answers."""

import abc
from collections.abc import Collection
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from ml.model.bundle import Bundle
from ml.model.decision import TOLERANCE, are_probabilities, can_be_unknown
from ml.model.errors import BundleError, first_line
from ml.model.manifest import UNKNOWN

if TYPE_CHECKING:
    from ml.model.checkpoint import Checkpoint  # imports torch


@dataclass(frozen=True, slots=True)
class Answers:
    """A network's outputs for N images.

    Attributes:
        probabilities: float32 [N, classes].
        known: float32 [N], OOD score, from 0 (the image shows none of the classes) to 1; None: the model has
            none.
        components: float32 [N, C], principal components of the network's features; None: the model has none.
        evidence: float32 [N, classes, h, w], the evidence at each place for each class; None: the model has
            none.
    """

    probabilities: NDArray[np.float32]
    known: NDArray[np.float32] | None = None
    components: NDArray[np.float32] | None = None
    evidence: NDArray[np.float32] | None = None


class Engine(abc.ABC):
    """A loaded network; several threads can use it in parallel.

    Attributes:
        name: name of the runtime, one of the values of ENGINE.
        outputs: names of the attributes of `Answers` that aren't None.
        manifest: the model file's description of the model.
        sha256: SHA-256 of the model file, hexadecimal.
        card: the model card, Markdown; empty: there is none.
        examples: the example photos in the model file, with the label that each must get.
    """

    name: str
    outputs: Collection[str]

    def __init__(self, file: "Bundle | Checkpoint") -> None:
        self.manifest, self.sha256, self.card = file.manifest, file.sha256, file.card
        self.examples = file.examples

    @abc.abstractmethod
    def answer(self, images: NDArray[np.uint8], evidence: bool = True) -> Answers:
        """Run the network.

        Args:
            images: RGB pixels [N, image_size, image_size, 3].
            evidence: False: the evidence isn't needed, which saves the time for it.
        """

    def labels(self, unknown: bool) -> tuple[str, ...]:
        """Return every label that a photo can get; `unknown`: see UNKNOWN in `app.settings`."""
        classes = self.manifest.classes
        return (*classes, UNKNOWN) if unknown and can_be_unknown(self.manifest, self.outputs) else classes

    def warm_up(self) -> None:
        """Run the network on a black image and on noise, which makes first-time allocations now.

        Raises:
            BundleError: it doesn't run, or its outputs aren't usable.
        """
        size = self.manifest.image_size
        noise = np.random.default_rng(0).integers(0, 256, (size, size, 3), np.uint8)
        for images in (np.zeros((1, size, size, 3), np.uint8), np.stack([noise, noise[::-1]])):
            try:
                answers = self.answer(images)
            except Exception as error:
                raise BundleError(f"its network doesn't run: {first_line(error)}") from error
            self._check(answers, len(images))

    def _check(self, answers: Answers, images: int) -> None:
        """Raise BundleError unless the answers for this number of images are usable."""
        probabilities, known, evidence = answers.probabilities, answers.known, answers.evidence
        expected = (images, len(self.manifest.classes))
        if probabilities.shape != expected or not all(map(are_probabilities, probabilities.tolist())):
            raise BundleError(f"its network returns no probabilities (shape {probabilities.shape})")
        if known is not None and not (
            known.shape == (images,) and all(-TOLERANCE < score < 1 + TOLERANCE for score in known.tolist())
        ):
            raise BundleError(f"its network returns an OOD score (known) that is not from 0 to 1: {known}")
        components = answers.components
        if components is not None and (
            components.shape[:1] != (images,) or not np.isfinite(components).all()
        ):
            raise BundleError(f"its network returns no components (shape {components.shape})")
        if evidence is not None and (evidence.shape[:2] != expected or not np.isfinite(evidence).all()):
            raise BundleError(f"its network returns no evidence (shape {evidence.shape})")
