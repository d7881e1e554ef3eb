"""A model that answers in this process, for the commands that classify photos without a service."""

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Lock
from typing import Any
from urllib.request import url2pathname

import numpy as np
from numpy.typing import NDArray

from ml.model import bundle
from ml.model.decision import Decision, decide_label
from ml.model.errors import BundleError, NoOnnxModelError, PipelineError, first_line
from ml.model.manifest import Manifest
from ml.model.onnx_model import OnnxModel
from ml.paths import DEFAULT_MODEL, MODEL

Run = Callable[[NDArray[np.uint8]], dict[str, NDArray[Any]]]
"""Pixels [1, size, size, 3] to `probabilities` [1, classes] and, with an OOD score, `known` [1]; if it was
asked for and the model has it, also `evidence` [1, classes, h, w]."""


@dataclass(frozen=True)
class LocalModel:
    """A loaded model; several threads can use it in parallel."""

    manifest: Manifest
    run: Run

    def decide(self, pixels: NDArray[np.uint8]) -> Decision:
        """Return the answer for a photo's pixels [size, size, 3].

        Raises:
            AnswerError: the network returns no probabilities.
        """
        outputs = self.run(pixels[np.newaxis])
        known = float(outputs["known"][0]) if "known" in outputs else None
        return decide_label(self.manifest, outputs["probabilities"][0], known)


def download(source: str | None, folder: Path) -> Path:
    """Return the file of a model: a path, or a URL, which is downloaded to `folder`.

    Without a source it is the pipeline's model if there is one, else the default model.

    Raises:
        PipelineError: it cannot be downloaded.
    """
    if source is None:
        return MODEL if MODEL.is_file() else DEFAULT_MODEL
    if source.startswith(("http://", "https://")):
        from ml.data.download import fetch  # which imports the HTTP client

        return fetch(source, folder)
    if source.startswith("file:///"):  # as in MODEL_URL
        return Path(url2pathname(source.removeprefix("file://")))
    return Path(source)


def load_source(source: str | None, evidence: bool = False) -> LocalModel:
    """Load a model from where `download` finds it; arguments and errors as of `download` and `load`."""
    with tempfile.TemporaryDirectory() as folder:
        return load(download(source, Path(folder)), evidence)


def load(path: Path, evidence: bool = False) -> LocalModel:
    """Load a `model.pt`, with torch only if it has no ONNX model.

    Args:
        path: of the file.
        evidence: whether the ONNX model shall return its evidence too.

    Raises:
        PipelineError: it isn't a usable model; the message says why.
    """
    try:
        return _load(path, evidence)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path} can't be used: {error}") from error


def _load(path: Path, evidence: bool) -> LocalModel:
    try:
        content = bundle.read(path)
    except NoOnnxModelError:
        return _load_checkpoint(path)
    model = OnnxModel(content.onnx, threads=1)
    size, classes = content.manifest.image_size, len(content.manifest.classes)
    try:
        shape = model.run(np.zeros((1, size, size, 3), np.uint8))["probabilities"].shape
    except Exception as error:
        raise BundleError(f"its ONNX model doesn't run: {first_line(error)}") from error
    if shape != (1, classes):
        raise BundleError(f"its ONNX model answers {shape}, expected {(1, classes)}")
    wanted = ("probabilities", "known", *(["evidence"] if evidence else []))
    outputs = [name for name in model.outputs if name in wanted]
    return LocalModel(content.manifest, partial(model.run, outputs=outputs))


def _load_checkpoint(path: Path) -> LocalModel:
    try:
        import torch

        from ml.model import checkpoint
        from ml.model.answering import restore
    except ImportError as error:
        raise PipelineError(
            f"{path} has no ONNX model, so it needs torch: pip install -r requirements-torch.txt"
        ) from error
    content = checkpoint.read(path)
    module = restore(content)

    lock = Lock()  # torch uses all CPUs for one photo

    def run(images: NDArray[np.uint8]) -> dict[str, NDArray[Any]]:
        with lock, torch.inference_mode():
            values = [value.numpy() for value in module(torch.from_numpy(images.copy()))]
        return {"probabilities": values[0]} | ({"known": values[1]} if module.known else {})

    return LocalModel(content.manifest, run)
