"""Measure how often small perturbations of a photo change its label, on the ONNX model of a model.pt.

The photos come from the test split of the prepared photos.
"""

import argparse
import dataclasses
import json
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ml import params as parameters
from ml.cli import say
from ml.data.dataset import FOLDER, Dataset, read_raw
from ml.data.ingest import RAW
from ml.evaluation.metrics import wilson
from ml.evaluation.packaged_model import IncomparableError, answer_test_photos
from ml.model import bundle
from ml.model.decision import is_unknown
from ml.model.errors import PipelineError
from ml.model.host import available_cpus
from ml.model.image import ImageError, decode
from ml.model.onnx_model import OnnxModel
from ml.packaging.conditions import Condition
from ml.packaging.perturbations import COLOUR_PERTURBATIONS, PERTURBATIONS, decode_whole
from ml.params import Params

EXAMPLE = "python -m ml stability models/model.pt"
_BY_COLOUR = 0.8
"""Colour separates the classes if the mean colour alone predicts them with this balanced accuracy."""

_COLOUR_PHOTOS = 2000
"""Training photos whose colours are looked at; rare classes may add some."""

_ERROR_RATE = 0.01
"""Models with more errors may flip more labels."""


@dataclasses.dataclass(frozen=True)
class Flips:
    """The effect of one perturbation.

    Attributes:
        flips: number of photos whose label changes.
        share: the same as a share of all photos; `low` and `high` are the ends of its interval.
        limit: the largest allowed share, which grows with the model's error rate; None if any is allowed,
            because colour separates the classes or because there are too few photos to measure a share.
        over: whether the share is over the limit. One photo may always flip.
        refused: share of photos that are classified as unknown only after the perturbation; None if the model
            has no OOD score.
    """

    flips: int
    share: float
    low: float
    high: float
    limit: float | None
    over: bool
    refused: float | None


@dataclasses.dataclass(frozen=True)
class StabilityReport:
    """The effect of each perturbation, by name, on a number of photos."""

    photos: int
    perturbations: dict[str, Flips]

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        flips = {name: vars(flips) for name, flips in self.perturbations.items()}
        path.write_text(json.dumps({"photos": self.photos, "changes": flips}, indent=2) + "\n", "utf-8")

    def conditions(self) -> list[Condition]:
        """Return the conditions that have limits."""
        return [
            Condition(
                f"stable labels: {name.replace('_', ' ')}",
                not flips.over,
                f"{name} flips {flips.share:.1%} of the labels (limit {flips.limit:.1%})",
                f"stability.max_flips.{name}={np.ceil(1000 * flips.share) / 1000:g}",
            )
            for name, flips in self.perturbations.items()
            if flips.limit is not None
        ]

    def table(self) -> str:
        """Return the numbers as text."""
        lines = [f"{'':13} {'flips':>5} {'share':>7}  {'interval':16} {'limit':>6}"]
        for name, flips in self.perturbations.items():
            limit = "-" if flips.limit is None else f"{flips.limit:.1%}"
            interval = f"{flips.low:.2%} to {flips.high:.2%}"
            over = "  over its limit" if flips.over else ""
            lines.append(f"{name:13} {flips.flips:5} {flips.share:7.2%}  {interval:16} {limit:>6}{over}")
        return "\n".join(lines)


def measure_stability(params: Params, model: OnnxModel, data: Dataset, raw: Path = RAW) -> StabilityReport:
    """Perturb test photos from `raw`, and classify them with a model for photos as they are in `data`.

    Raises:
        PipelineError: an ingested photo is missing, or has changed.
    """
    p = params.stability
    rows = data.sample("test", p.photos, params.train.seed)

    def classify(numbered: tuple[int, int]) -> dict[str, NDArray[np.float64]]:
        return model.run(_perturb(*numbered, data, raw))

    # Threads suffice: Pillow and ONNX Runtime release Python's global lock.
    with ThreadPoolExecutor(available_cpus()) as pool:
        photos = tqdm(pool.map(classify, enumerate(rows)), "stability", len(rows), mininterval=1)
        outputs = [(photo["probabilities"].argmax(1), photo.get("known")) for photo in photos]
    labels = np.stack([label for label, _ in outputs])  # [photos, 1 + perturbations]
    scores = [score for _, score in outputs if score is not None]
    known = ~is_unknown(np.stack(scores)) if scores else None
    error_rate = float((labels[:, 0] != data.labels[rows]).mean())
    unlimited: Collection[str] = PERTURBATIONS
    if len(rows) >= p.min_photos:
        unlimited = COLOUR_PERTURBATIONS if _colour_separates_classes(data) else ()
    perturbations = {}
    for number, name in enumerate(PERTURBATIONS, 1):
        flips = int((labels[:, number] != labels[:, 0]).sum())
        limit = None if name in unlimited else _limit(getattr(p.max_flips, name), error_rate)
        refused = None if known is None else float((known[:, 0] & ~known[:, number]).mean())
        perturbations[name] = _judge(flips, len(rows), limit, refused, params.evaluate.confidence)
    return StabilityReport(len(rows), perturbations)


def _perturb(number: int, row: int, data: Dataset, raw: Path) -> NDArray[np.uint8]:
    """Return a photo without and with each perturbation, [1 + perturbations, H, W, 3]."""
    path = raw / data.paths[row]
    try:
        content = read_raw(data, row, raw)
        photo = decode_whole(content, data.image_size)
        files = [content, *(perturbation(photo, number) for perturbation in PERTURBATIONS.values())]
        return np.stack([decode(file, data.image_size, data.resize) for file in files])
    except (OSError, ImageError) as error:
        raise PipelineError(f"{path} cannot be used ({error}): run `dvc repro`") from error


def _colour_separates_classes(data: Dataset) -> bool:
    """Return whether the mean colour alone predicts the class of most photos."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score

    rows = data.sample("train", _COLOUR_PHOTOS, 0, per_class=10)
    colours = np.stack([data.images[row][::8, ::8].mean((0, 1)) for row in rows]) / 255
    model = LogisticRegression(C=1000, class_weight="balanced", max_iter=1000)
    predicted = model.fit(colours, data.labels[rows]).predict(colours)
    return bool(balanced_accuracy_score(data.labels[rows], predicted) >= _BY_COLOUR)


def _limit(share: float, error_rate: float) -> float:
    """Return the limit of a model with that share of errors, see params.yaml; it grows to a half at most."""
    return max(share, min(0.5, share * error_rate / _ERROR_RATE))


def _judge(flips: int, photos: int, limit: float | None, refused: float | None, confidence: float) -> Flips:
    share = wilson(flips, photos, confidence)
    over = limit is not None and flips > 1 and flips / photos > limit  # a product may round to less
    return Flips(flips, share.value, share.low, share.high, limit, over, refused)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument("model", type=Path, metavar="MODEL", help="path of a model.pt")
    parser.add_argument("--data", type=Path, default=FOLDER, help=f"prepared photos (default: {FOLDER})")
    parser.add_argument("--raw", type=Path, default=RAW, help=f"ingested photos (default: {RAW})")


def main(arguments: argparse.Namespace) -> None:
    """Measure a model.pt and print the numbers.

    Raises:
        PipelineError: the model cannot be read or does not run, or is for other photos.
    """
    data = Dataset.load(arguments.data)
    try:
        model = bundle.read(arguments.model)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{arguments.model} cannot be read: {error}") from error
    m = model.manifest
    if (m.classes, m.image_size, m.resize) != (data.classes, data.image_size, data.resize):
        raise PipelineError(
            f"{arguments.model} has other classes, another order of them, or another image size than "
            f"{arguments.data}"
        )
    try:
        answer_test_photos(model, data)
    except IncomparableError as error:
        raise PipelineError(f"{arguments.model} cannot be used: {error}") from error
    stability = measure_stability(parameters.load(), OnnxModel(model.onnx), data, arguments.raw)
    say(f"{stability.photos} test photos\n{stability.table()}")
