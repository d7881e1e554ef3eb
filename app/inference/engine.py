"""The interface of the runtimes (engines), so that the rest of the service doesn't depend on one of them."""

from collections.abc import Collection
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from app.inference.answers import Answers
from ml.model import bundle
from ml.model.decision import can_be_unknown
from ml.model.errors import BundleError, NoOnnxModelError
from ml.model.manifest import UNKNOWN, Manifest


class Engine(Protocol):
    """A loaded network; several threads can use it in parallel."""

    @property
    def name(self) -> str:
        """Name of the runtime, one of the values of ENGINE."""

    @property
    def manifest(self) -> Manifest:
        """The model file's description of the model."""

    @property
    def sha256(self) -> str:
        """SHA-256 of the model file, hexadecimal."""

    @property
    def card(self) -> str:
        """The model card, Markdown; empty: there is none."""

    @property
    def outputs(self) -> Collection[str]:
        """Names of the attributes of `Answers` that aren't None."""

    def answer(self, images: NDArray[np.uint8]) -> Answers:
        """Run the network on RGB pixels [N, image_size, image_size, 3]."""


def labels(engine: Engine, unknown: bool) -> tuple[str, ...]:
    """Return every label that a photo can get.

    Args:
        engine: the loaded network.
        unknown: whether a photo that shows none of the classes gets `UNKNOWN`, see UNKNOWN in `app.settings`.
    """
    classes = engine.manifest.classes
    return (*classes, UNKNOWN) if unknown and can_be_unknown(engine.manifest, engine.outputs) else classes


def load(path: Path, kind: str, threads: int) -> Engine:
    """Load a model file.

    Args:
        path: a `model.pt`.
        kind: the engine: `auto`, `onnx` or `torch`, as in ENGINE.
        threads: how many threads one prediction uses.

    Raises:
        BundleError: the engine can't use the file; the message is one line.
    """
    # Only the runtime that is used is imported: torch takes more than a second.
    if kind != "torch":
        try:
            content = bundle.read(path)
        except NoOnnxModelError:
            if kind == "onnx":
                raise
        else:
            from app.inference.onnx_engine import OnnxEngine

            return OnnxEngine(content, threads)
    try:
        from app.inference.torch_engine import TorchEngine
    except ImportError as error:
        raise BundleError(
            "it needs the torch engine, which isn't installed; run pip install -r requirements-torch.txt"
        ) from error
    from ml.model import checkpoint

    return TorchEngine(checkpoint.read(path), threads)
