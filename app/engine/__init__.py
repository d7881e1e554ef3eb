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
    # Each runtime is imported only when it is the one: torch takes more than a second.
    if kind != "torch":
        try:
            content = bundle.read(path)
        except bundle.NoTwinError:
            if kind == "onnx":
                raise
        else:
            from app.engine.onnx import OnnxEngine

            return OnnxEngine(content, threads)
    try:
        from app.engine.torch import TorchEngine
    except ImportError as error:
        raise bundle.BundleError(
            "it needs the torch engine, which isn't installed: pip install -r requirements-torch.txt"
        ) from error
    from ml import checkpoint

    return TorchEngine(checkpoint.read(path), threads)
