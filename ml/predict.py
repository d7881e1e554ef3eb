"""Labels for photos, from a shell: `python -m ml.predict PHOTO...|FOLDER [--model FILE|URL] [--format csv]`.

Without `--model` it takes models/model.pt, what the pipeline made, or else the embedded default. No torch is
imported where the model has an ONNX twin.

Exit code 0: every photo has an answer. 1: some can't be used, which are listed at the end, or nothing could
be done. 2: the command line is wrong.
"""

import argparse
import csv
import dataclasses
import io
import json
import sys
import tempfile
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from ml import bundle
from ml.cli import exit_cleanly, note, say
from ml.errors import NoTwinError, PipelineError
from ml.fetch import fetch
from ml.image import ImageError, decode
from ml.manifest import UNKNOWN, Manifest
from ml.paths import DEFAULT_MODEL, MODEL

SUFFIXES = {".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".webp", ".gif", ".bmp"}
"""Of the files that are taken from a folder; what is named itself is read whatever its name."""
_THREADS = 2
"""They decode photos ahead of the network; more would only wait for it."""
_AHEAD = 16

Answer = dict[str, NDArray[np.float32]]
"""`probabilities` [1, classes] and, where the model can tell, `known` [1]."""


@dataclasses.dataclass(frozen=True)
class Row:
    """The answer for one photo.

    Attributes:
        path: of the photo, as it was named.
        label: the likeliest class, or `UNKNOWN`.
        probabilities: by class.
        known: 0 to 1, whether it shows any of the classes; None: the model can't tell.
    """

    path: str
    label: str
    probabilities: dict[str, float]
    known: float | None


def photos(named: Sequence[Path]) -> list[Path]:
    """Return the files named and those in the folders named, in the order of their names.

    Raises:
        PipelineError: one of them isn't there, or a folder holds no photo.
    """
    found: list[Path] = []
    for path in named:
        if path.is_dir():
            inside = sorted(p for p in path.rglob("*") if p.suffix.lower() in SUFFIXES and p.is_file())
            if not inside:
                raise PipelineError(f"{path} holds no photo ({', '.join(sorted(SUFFIXES))})")
            found += inside
        elif path.exists():
            found.append(path)
        else:
            raise PipelineError(f"{path} isn't there")
    return found


class Model:
    """A `model.pt`, ready to answer; safe to call from one thread."""

    def __init__(self, path: Path) -> None:
        """Load it.

        Raises:
            PipelineError: it is no model, or can't be read.
        """
        try:
            read = bundle.read(path)
        except NoTwinError:
            self.manifest, self._ask = _by_torch(path)
        except (OSError, ValueError) as error:
            raise PipelineError(f"{path} can't be used: {error}") from error
        else:
            self.manifest, self._ask = read.manifest, _by_onnx(path, read.onnx)

    def answer(self, path: Path, pixels: NDArray[np.uint8]) -> Row:
        """Answer for the pixels [image_size, image_size, 3] of a photo."""
        answer, classes = self._ask(pixels[np.newaxis]), self.manifest.classes
        chances = answer["probabilities"][0]
        label, known = classes[int(chances.argmax())], None
        if "known" in answer and self.manifest.known:
            known = round(float(answer["known"][0]), 6)
            if known < self.manifest.known["threshold"] and UNKNOWN not in classes:
                label = UNKNOWN
        rounded = [round(float(chance), 6) for chance in chances]
        return Row(str(path), label, dict(zip(classes, rounded, strict=True)), known)


def _by_onnx(path: Path, twin: bytes) -> Callable[[NDArray[np.uint8]], Answer]:
    import onnxruntime

    try:
        session = onnxruntime.InferenceSession(twin, providers=["CPUExecutionProvider"])
    except Exception as error:
        raise PipelineError(f"{path} can't be used: its ONNX twin can't be loaded") from error
    names = [name for name in ("probabilities", "known") if name in {o.name for o in session.get_outputs()}]
    return lambda images: dict(zip(names, session.run(names, {"image": images}), strict=True))


def _by_torch(path: Path) -> tuple[Manifest, Callable[[NDArray[np.uint8]], Answer]]:
    try:
        import torch

        from ml import checkpoint
        from ml.answering import restore
    except ImportError as error:
        raise PipelineError(f"{path} is a plain checkpoint, which takes torch to run") from error
    try:
        read = checkpoint.read(path)
        module = restore(read)
    except (OSError, ValueError) as error:
        raise PipelineError(f"{path} can't be used: {error}") from error
    names = ["probabilities", *(["known"] if module.known else [])]

    def ask(images: NDArray[np.uint8]) -> Answer:
        with torch.inference_mode():
            answers = module(torch.from_numpy(images.copy()))
        return {name: value.numpy() for name, value in zip(names, answers, strict=False)}

    return read.manifest, ask


def predict(model: Model, paths: Sequence[Path]) -> Iterator[Row | tuple[Path, str]]:
    """Answer for photos, in their order, and one by one, however many they are.

    Yields:
        for each a row, or its path and what is wrong with it.
    """
    size, resize = model.manifest.image_size, model.manifest.resize

    def load(path: Path) -> NDArray[np.uint8] | str:
        try:
            return decode(path.read_bytes(), size, resize)
        except ImageError as error:
            return str(error)
        except OSError as error:
            return error.strerror or type(error).__name__

    rest = iter(paths)
    with ThreadPoolExecutor(_THREADS) as pool:
        waiting: list[tuple[Path, Future[NDArray[np.uint8] | str]]] = [
            (path, pool.submit(load, path)) for path in islice(rest, _AHEAD)
        ]
        while waiting:
            path, loaded = waiting.pop(0)
            waiting += [(path, pool.submit(load, path)) for path in islice(rest, 1)]
            pixels = loaded.result()
            yield (path, pixels) if isinstance(pixels, str) else model.answer(path, pixels)


def write(rows: Sequence[Row], classes: Sequence[str], form: str) -> str:
    """Return rows as `table`, `json` (a list of objects) or `csv` (one column a class)."""
    if form == "json":
        return json.dumps([_plain(row) for row in rows], indent=2, ensure_ascii=False)
    head = ["path", "label", *classes, *(["known"] if any(row.known is not None for row in rows) else [])]
    lines: list[list[Any]] = [
        [row.path, row.label, *row.probabilities.values(), *([row.known] if "known" in head[2:] else [])]
        for row in rows
    ]
    if form == "csv":
        buffer = io.StringIO()
        csv.writer(buffer, lineterminator="\n").writerows([head, *lines])
        return buffer.getvalue().rstrip("\n")
    shown = [head, *([*line[:2], *(f"{value:.4f}" for value in line[2:])] for line in lines)]
    widths = [max(len(line[column]) for line in shown) for column in range(len(head))]
    return "\n".join(
        "  ".join(
            cell.ljust(width) if column < 2 else cell.rjust(width)
            for column, (cell, width) in enumerate(zip(line, widths, strict=True))
        ).rstrip()
        for line in shown
    )


def _plain(row: Row) -> dict[str, Any]:
    return {name: value for name, value in dataclasses.asdict(row).items() if value is not None}


def _model(named: str | None, folder: Path) -> Model:
    if named is None:
        return Model(MODEL if MODEL.is_file() else DEFAULT_MODEL)
    if named.startswith(("http://", "https://")):
        return Model(fetch(named, folder))
    return Model(Path(named))


def main(arguments: Sequence[str] | None = None) -> None:
    """Answer for the photos that the command line names."""
    parser = argparse.ArgumentParser(prog="ml.predict", description="Labels for photos.")
    parser.add_argument("photos", nargs="+", type=Path, metavar="PHOTO|FOLDER")
    parser.add_argument(
        "--model", metavar="FILE|URL", help="a model.pt (default: the pipeline's, or the embedded one)"
    )
    parser.add_argument("--format", choices=("table", "json", "csv"), default="table")
    options = parser.parse_args(arguments)
    paths = photos(options.photos)
    with tempfile.TemporaryDirectory() as folder:
        model = _model(options.model, Path(folder))
    rows, bad = [], []
    for found in tqdm(
        predict(model, paths), "photos", len(paths), disable=len(paths) < _AHEAD, mininterval=1
    ):
        if isinstance(found, Row):
            rows.append(found)
        else:
            bad.append(found)
    if rows or options.format == "json":
        say(write(rows, model.manifest.classes, options.format))
    for path, reason in bad:
        note(f"{path}: {reason}")
    if bad:
        note(f"{len(bad)} of {len(paths)} can't be used")
        sys.exit(1)


if __name__ == "__main__":
    with exit_cleanly():
        main()
