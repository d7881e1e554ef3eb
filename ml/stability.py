"""Whether small changes of a photo leave its label alone, measured on the twin that is to be served.

`python -m ml.stability MODEL` measures a model.pt on the prepared photos.
"""

import argparse
import dataclasses
import hashlib
import json
from collections.abc import Collection, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ml import params as parameters
from ml.cli import exit_cleanly, say
from ml.dataset import FOLDER, Dataset
from ml.errors import PipelineError
from ml.image import ImageError, read
from ml.ingest import RAW
from ml.known import THRESHOLD
from ml.metrics import wilson
from ml.packaging.changes import CHANGES, OF_COLOUR, whole
from ml.params import Params
from ml.training.batches import cores
from ml.twin import Twin

_BY_COLOUR = 0.8


@dataclasses.dataclass(frozen=True)
class Flips:
    """What one change does.

    Attributes:
        flips: photos whose label is another afterwards.
        share: of all photos.
        low: lower end of the share's interval.
        high: upper end.
        limit: share that is allowed; None: any, since colour is what tells these classes, or since so few
            photos can't show a share.
        over: whether it is exceeded. One photo always may.
        refused: share of photos that show one of the classes before and none afterwards; None: never told.
    """

    flips: int
    share: float
    low: float
    high: float
    limit: float | None
    over: bool
    refused: float | None


@dataclasses.dataclass(frozen=True)
class Stability:
    """What all changes do to so many photos, by name of the change."""

    photos: int
    changes: dict[str, Flips]

    def write(self, path: Path) -> None:
        """Write it as JSON."""
        path.write_text(json.dumps(dataclasses.asdict(self), indent=2) + "\n", "utf-8")

    def check(self) -> None:
        """Refuse what flips too often.

        Raises:
            PipelineError: some change flips more labels than its limit allows; it names each.
        """
        over = [
            f"{name} flips {found.share:.1%} (limit {found.limit:.1%})"
            for name, found in self.changes.items()
            if found.over
        ]
        if over:
            raise PipelineError(
                f"refused: labels are not stable: {', '.join(over)}; stability.max_flips holds the limits"
            )


def measure(params: Params, twin: Twin, data: Dataset, raw: Path = RAW) -> Stability:
    """Change test photos and ask the twin again.

    Args:
        params: `stability`, and the seed that chooses the photos.
        twin: for photos as `data` has them.
        data: whose test photos are taken.
        raw: those photos as they came.

    Raises:
        PipelineError: a photo isn't there, or is another one.
    """
    p = params.stability
    rows = np.sort(np.random.default_rng(params.train.seed).permutation(data.rows("test"))[: p.photos])
    answers: dict[str, list[NDArray[np.float64]]] = {"probabilities": [], "known": []}

    def ask(job: tuple[int, int]) -> dict[str, NDArray[np.float64]]:
        return twin.run(_versions(*job, data, raw))

    # Threads: Pillow and ONNX Runtime do their work outside of Python's lock.
    with ThreadPoolExecutor(cores()) as pool:
        for found in tqdm(pool.map(ask, enumerate(rows)), "stability", len(rows), mininterval=1):
            for name, some in answers.items():
                if name in found:
                    some.append(found[name])
    labels = np.stack(answers["probabilities"]).argmax(2)  # [photos, 1 + changes]
    known = np.stack(answers["known"]) >= THRESHOLD if answers["known"] else None
    excused: Collection[str] = OF_COLOUR if _told_by_colour(data) else ()
    if len(rows) < p.min_photos:
        excused = CHANGES
    changes = {}
    for number, name in enumerate(CHANGES, 1):
        limit = None if name in excused else getattr(p.max_flips, name)
        refused = None if known is None else float((known[:, 0] & ~known[:, number]).mean())
        flips = int((labels[:, number] != labels[:, 0]).sum())
        changes[name] = _judge(flips, len(rows), limit, refused, params.evaluate.confidence)
    return Stability(len(rows), changes)


def _judge(flips: int, photos: int, limit: float | None, refused: float | None, confidence: float) -> Flips:
    share = wilson(flips, photos, confidence)
    over = limit is not None and flips > max(limit * photos, 1)
    return Flips(flips, share.value, share.low, share.high, limit, over, refused)


def _versions(number: int, row: int, data: Dataset, raw: Path) -> NDArray[np.uint8]:
    """Read a photo as it is and after each change, [1 + changes, H, W, 3]."""
    path = raw / data.paths[row]
    try:
        content = path.read_bytes()
        if hashlib.sha256(content).hexdigest() != data.hashes[row]:
            raise ImageError("another photo than was prepared")
        photo = whole(content, data.image_size)
        files = [content, *(change(photo, number) for change in CHANGES.values())]
        return np.stack([read(file, data.image_size, data.resize).pixels for file in files])
    except (OSError, ImageError) as error:
        raise PipelineError(f"{path} can't be used ({error}): run `dvc repro`") from error


def _told_by_colour(data: Dataset) -> bool:
    """Whether the mean colour of a photo tells most of its class: then a change of it is no small one."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import balanced_accuracy_score

    rows = data.rows("train")
    rows = rows[:: max(1, len(rows) // 2000)]
    colours = np.stack([data.images[row][::8, ::8].mean((0, 1)) for row in rows]) / 255
    model = LogisticRegression(C=1000, class_weight="balanced", max_iter=1000)
    told = model.fit(colours, data.labels[rows]).predict(colours)
    return bool(balanced_accuracy_score(data.labels[rows], told) >= _BY_COLOUR)


def table(found: Mapping[str, Flips]) -> str:
    """Return the figures for people."""
    lines = [f"{'':13} {'flips':>5} {'share':>7}  {'interval':16} {'limit':>6}"]
    for name, one in found.items():
        limit = "-" if one.limit is None else f"{one.limit:.1%}"
        interval = f"{one.low:.2%} to {one.high:.2%}"
        lines.append(f"{name:13} {one.flips:5} {one.share:7.2%}  {interval:16} {limit:>6}"
                     f"{'  over its limit' if one.over else ''}")  # fmt: skip
    return "\n".join(lines)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure a model.pt, as the command line says."""
    from ml import bundle

    parser = argparse.ArgumentParser(prog="ml.stability", description=(__doc__ or "").partition("\n\n")[0])
    parser.add_argument("model", type=Path, metavar="MODEL", help="a model.pt")
    parser.add_argument("--data", type=Path, default=FOLDER, help="the prepared photos")
    parser.add_argument("--raw", type=Path, default=RAW, help="those photos as they came")
    options = parser.parse_args(arguments)
    data = Dataset.load(options.data)
    try:
        model = bundle.read(options.model)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{options.model} can't be read: {error}") from error
    told = model.manifest
    if (set(told.classes), told.image_size, told.resize) != (set(data.classes), data.image_size, data.resize):
        raise PipelineError(f"{options.model} is for other classes or photos than {options.data} holds")
    found = measure(parameters.load(), Twin(model.onnx), data, options.raw)
    say(f"{found.photos} test photos\n{table(found.changes)}")


if __name__ == "__main__":
    with exit_cleanly():
        main()
