"""Loads a model file with the engine that fits; nothing else in the service depends on one of the engines."""

import math
from pathlib import Path

from app.inference.engine import Engine
from ml.model import bundle
from ml.model.errors import BundleError, NoOnnxModelError
from ml.model.host import largest_model


def load(path: Path, kind: str, threads: int, limit_s: float = math.inf) -> Engine:
    """Load a model file.

    Args:
        path: a `model.pt`.
        kind: the engine: `auto`, `onnx` or `torch`, as in ENGINE.
        threads: how many threads one prediction uses.
        limit_s: how long one run of an ONNX model may take, in seconds.

    Raises:
        BundleError: the engine can't use the file; the message is one line.
    """
    if (size := path.stat().st_size) > (limit := largest_model()):
        raise BundleError(f"it has {size:,} bytes, but the memory suffices for at most {limit:,.0f}")
    # Only the runtime that is used is imported: torch takes more than a second.
    if kind != "torch":
        try:
            content = bundle.read(path)
        except NoOnnxModelError:
            if kind == "onnx":
                raise
        else:
            from app.inference.onnx_engine import OnnxEngine

            return OnnxEngine(content, threads, limit_s)
    try:
        from app.inference.torch_engine import TorchEngine
        from ml.model import checkpoint
    except ImportError as error:
        raise BundleError(
            "it needs the torch engine, which isn't installed; run pip install -r requirements-torch.txt"
        ) from error
    return TorchEngine(checkpoint.read(path), threads)
