"""Classify photos on this machine, without a service.

Exit code 0: every photo has an answer. 1: some photos cannot be used (listed at the end), or an error.
"""

import argparse
import csv
import dataclasses
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ml.cli import note, say
from ml.data.download import fetch
from ml.model import bundle, photos
from ml.model.decision import Decision, decide_label
from ml.model.errors import NoOnnxModelError, PipelineError
from ml.model.image import ImageError, decode
from ml.model.manifest import Manifest
from ml.model.onnx_model import OnnxModel
from ml.paths import DEFAULT_MODEL, MODEL

EXAMPLE = "python -m ml predict tests/photos --format csv"

_DECODING_THREADS = 2  # decode photos ahead of the network; more threads would only wait for it
_AHEAD = 16

Outputs = dict[str, NDArray[Any]]
"""Outputs for one photo: `probabilities` [1, classes] and, if the model has an OOD score, `known` [1]."""


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The answer for one photo: its path as it was given, and the other fields as in `Decision`."""

    path: str
    label: str
    probabilities: dict[str, float]
    known: float | None


class Classifier:
    """A loaded `model.pt`, for one thread. It imports torch only if the file has no ONNX model."""

    def __init__(self, path: Path) -> None:
        """Load the file.

        Raises:
            PipelineError: it cannot be read, or is not a `model.pt`.
        """
        try:
            self.manifest, self._run = _load(path)
        except (OSError, ValueError) as error:
            raise PipelineError(f"{path} can't be used: {error}") from error

    def decide(self, pixels: NDArray[np.uint8]) -> Decision:
        """Classify the pixels [image_size, image_size, 3] of one photo."""
        outputs = self._run(pixels[np.newaxis])
        known = float(outputs["known"][0]) if "known" in outputs else None
        return decide_label(self.manifest, outputs["probabilities"][0], known)


def _load(path: Path) -> tuple[Manifest, Callable[[NDArray[np.uint8]], Outputs]]:
    try:
        content = bundle.read(path)
    except NoOnnxModelError:
        return _load_checkpoint(path)
    return content.manifest, OnnxModel(content.onnx).run


def _load_checkpoint(path: Path) -> tuple[Manifest, Callable[[NDArray[np.uint8]], Outputs]]:
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
    names = ["probabilities", *(["known"] if module.known else [])]

    def run(images: NDArray[np.uint8]) -> Outputs:
        with torch.inference_mode():
            values = module(torch.from_numpy(images.copy()))
        return {name: value.numpy() for name, value in zip(names, values, strict=False)}

    return content.manifest, run


def predict(classifier: Classifier, paths: Sequence[Path]) -> Iterator[Prediction | tuple[Path, str]]:
    """Classify photos one by one, in their order, in bounded memory.

    Yields:
        for each photo its prediction, or its path and the reason why it cannot be used.
    """
    size, resize = classifier.manifest.image_size, classifier.manifest.resize

    def load(path: Path) -> NDArray[np.uint8] | str:
        try:
            return decode(path.read_bytes(), size, resize)
        except ImageError as error:
            return str(error)
        except OSError as error:
            return error.strerror or type(error).__name__

    rest = iter(paths)
    with ThreadPoolExecutor(_DECODING_THREADS) as pool:
        waiting: list[tuple[Path, Future[NDArray[np.uint8] | str]]] = [
            (path, pool.submit(load, path)) for path in islice(rest, _AHEAD)
        ]
        while waiting:
            path, future = waiting.pop(0)
            waiting += [(path, pool.submit(load, path)) for path in islice(rest, 1)]
            pixels = future.result()
            if isinstance(pixels, str):
                yield path, pixels
            else:
                decision = classifier.decide(pixels)
                yield Prediction(str(path), decision.label, decision.probabilities, decision.known)


def render(predictions: Sequence[Prediction], classes: Sequence[str], form: str) -> str:
    """Return predictions as `table`, `json` (a list of objects) or `csv` (one column per class)."""
    if form == "json":
        plain = [{k: v for k, v in vars(one).items() if v is not None} for one in predictions]
        return json.dumps(plain, indent=2, ensure_ascii=False)
    with_score = any(one.known is not None for one in predictions)
    head = ["path", "label", *classes, *(["known"] if with_score else [])]
    lines: list[list[Any]] = [
        [one.path, one.label, *one.probabilities.values(), *([one.known] if with_score else [])]
        for one in predictions
    ]
    if form == "csv":
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([head, *lines])
        return buffer.getvalue().rstrip("\n")
    cells = [head, *([*line[:2], *(f"{value:.4f}" for value in line[2:])] for line in lines)]
    widths = [max(len(line[column]) for line in cells) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in cells
    )


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "photos", nargs="+", type=Path, metavar="PHOTO", help="a photo, or a folder of photos with subfolders"
    )
    parser.add_argument(
        "--model",
        metavar="FILE|URL",
        help="a model.pt; default: models/model.pt if it exists, else the model embedded in the service",
    )
    parser.add_argument(
        "--format", choices=("table", "json", "csv"), default="table", help="of the output; default: table"
    )


def main(arguments: argparse.Namespace) -> int:
    """Classify the photos and print the answers."""
    paths = _find(arguments.photos)
    classifier = _classifier(arguments.model)
    predictions, failures = [], []
    answers = predict(classifier, paths)
    for answer in tqdm(answers, "photos", len(paths), disable=len(paths) < _AHEAD, mininterval=1):
        if isinstance(answer, Prediction):
            predictions.append(answer)
        else:
            failures.append(answer)
    if predictions or arguments.format == "json":
        say(render(predictions, classifier.manifest.classes, arguments.format))
    for path, reason in failures:
        note(f"{path}: {reason}")
    if failures:
        note(f"{len(failures)} of {len(paths)} can't be used")
    return int(bool(failures))


def _find(paths: Sequence[Path]) -> list[Path]:
    files: list[Path] = []
    for path in paths:
        try:
            in_path = photos.find(path)
        except FileNotFoundError as error:
            raise PipelineError(str(error)) from error
        if not in_path:
            raise PipelineError(f"no photos in {path} ({', '.join(sorted(photos.SUFFIXES))})")
        files += in_path
    return files


def _classifier(source: str | None) -> Classifier:
    if source is None:
        return Classifier(MODEL if MODEL.is_file() else DEFAULT_MODEL)
    if source.startswith(("http://", "https://")):
        with tempfile.TemporaryDirectory() as folder:
            return Classifier(fetch(source, Path(folder)))
    return Classifier(Path(source))
