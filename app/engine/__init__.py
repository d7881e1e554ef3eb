"""What runs the network: one small interface, so that the rest of the service knows no runtime."""

from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ml import bundle


class Engine(Protocol):
    """A loaded network, safe to call from several threads at once."""

    @property
    def name(self) -> str:
        """Name of the runtime, as in ENGINE."""

    @property
    def manifest(self) -> bundle.Manifest:
        """What the model file says of itself."""

    @property
    def sha256(self) -> str:
        """Of the model file, in hexadecimal."""

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities [N, classes] for RGB pixels [N, image_size, image_size, 3]."""


def load(path: Path, kind: str, threads: int) -> Engine:
    """Load a model file into the engine of that kind.

    Args:
        path: a `model.pt`.
        kind: `auto`, `onnx` or `torch`, as in ENGINE.
        threads: how many threads one prediction uses.

    Raises:
        BundleError: the file is of no use to that engine; the message is one line.
    """
    if kind == "torch":
        raise bundle.BundleError("ENGINE=torch: this version has no torch engine, use auto or onnx")
    from app.engine.onnx import OnnxEngine  # only now: it imports the runtime

    return OnnxEngine(bundle.read(path), threads)
