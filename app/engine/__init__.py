"""What runs the network: one small interface, so that the rest of the service knows no runtime."""

from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ml import bundle
from ml.errors import BundleError, NoTwinError
from ml.manifest import UNKNOWN, Manifest


@dataclass(frozen=True, slots=True)
class Answers:
    """What a network says of N images.

    Attributes:
        probabilities: float32 [N, classes].
        known: float32 [N], 0 to 1, whether an image shows any of the classes; None: the model can't tell.
        evidence: float32 [N, classes, h, w], what each place says for each class; None: likewise.
    """

    probabilities: NDArray[np.float32]
    known: NDArray[np.float32] | None = None
    evidence: NDArray[np.float32] | None = None


class Engine(Protocol):
    """A loaded network, safe to call from several threads at once."""

    @property
    def name(self) -> str:
        """Name of the runtime, as in ENGINE."""

    @property
    def manifest(self) -> Manifest:
        """What the model file says of itself."""

    @property
    def sha256(self) -> str:
        """Of the model file, in hexadecimal."""

    @property
    def card(self) -> str:
        """The model card, Markdown; empty: the file has none."""

    @property
    def outputs(self) -> Collection[str]:
        """Those attributes of `Answers` that it fills."""

    def answer(self, images: NDArray[np.uint8]) -> Answers:
        """Answer for RGB pixels [N, image_size, image_size, 3]."""


def refuses(engine: Engine, unknown: bool) -> bool:
    """Return whether a photo of none of the classes is labelled `UNKNOWN`.

    Args:
        engine: the loaded network, which has to be able to tell, and to have no class of that name: a label
            must not mean two things.
        unknown: whether it is wanted, see UNKNOWN in `app.settings`.
    """
    return unknown and "known" in engine.outputs and UNKNOWN not in engine.manifest.classes


def labels(engine: Engine, unknown: bool) -> tuple[str, ...]:
    """Return every label that a photo may get; the arguments are those of `refuses`."""
    classes = engine.manifest.classes
    return (*classes, UNKNOWN) if refuses(engine, unknown) else classes


def fault(answers: Answers, classes: int) -> str:
    """Say what is wrong with the answers to one image, for a model that is just being loaded."""
    probabilities, known = answers.probabilities, answers.known
    if probabilities.shape != (1, classes) or not abs(float(probabilities.sum()) - 1) < 1e-3:
        return f"answers no probabilities (shape {probabilities.shape})"
    if known is not None and not (known.shape == (1,) and -1e-3 < float(known[0]) < 1 + 1e-3):
        return f"answers no score from 0 to 1 as known ({known})"
    return ""


def load(path: Path, kind: str, threads: int) -> Engine:
    """Load a model file into the engine of that kind.

    Args:
        path: a `model.pt`.
        kind: `auto`, `onnx` or `torch`, as in ENGINE.
        threads: how many threads one prediction uses.

    Raises:
        BundleError: the file is of no use to that engine; the message is one line.
    """
    # Each runtime is imported only when it is the one: torch takes more than a second.
    if kind != "torch":
        try:
            content = bundle.read(path)
        except NoTwinError:
            if kind == "onnx":
                raise
        else:
            from app.engine.onnx import OnnxEngine

            return OnnxEngine(content, threads)
    try:
        from app.engine.torch import TorchEngine
    except ImportError as error:
        raise BundleError(
            "it needs the torch engine, which isn't installed: pip install -r requirements-torch.txt"
        ) from error
    from ml import checkpoint

    return TorchEngine(checkpoint.read(path), threads)
