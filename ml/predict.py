"""Classify photos on this machine, without a service.

Exit code 0: every photo has an answer. 1: some photos cannot be used (listed at the end), or an error.
"""

import argparse
import csv
import io
import json
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from pathlib import Path
from typing import Any

from tqdm import tqdm

from ml.cli import note, say
from ml.local_model import LocalModel, load_source
from ml.model import photos
from ml.model.decision import Decision
from ml.model.errors import AnswerError, PipelineError
from ml.model.host import available_cpus
from ml.model.image import ImageError, decode

EXAMPLE = "python -m ml predict tests/photos --format csv"

_COLUMNS = {"path", "label", "known"}
_TASK = 4  # photos
_AHEAD = 4  # tasks per thread that are begun before the oldest one is answered
_MANY = 16  # photos with which the progress is shown


def predict(model: LocalModel, paths: Sequence[Path]) -> Iterator[tuple[Path, Decision | str]]:
    """Classify photos, one per CPU at a time, in bounded memory.

    Yields:
        for each photo, in their order, its path, and the answer or the reason why it cannot be used.
    """
    size, resize = model.manifest.image_size, model.manifest.resize

    def answer(path: Path) -> Decision | str:
        try:
            return model.decide(decode(photos.read(path), size, resize))
        except (ImageError, AnswerError) as error:
            return str(error)
        except OSError as error:
            return error.strerror or type(error).__name__
        except MemoryError:
            return "there is not enough memory to read it"

    threads = available_cpus()
    # Several photos are one task, because each task costs a switch to the main thread and back.
    count = max(1, min(_TASK, len(paths) // (2 * threads)))
    tasks = (paths[first : first + count] for first in range(0, len(paths), count))
    with ThreadPoolExecutor(threads) as pool:
        pending: deque[tuple[Sequence[Path], Future[list[Decision | str]]]] = deque()
        for task in tasks:
            pending.append((task, pool.submit(lambda task: [answer(path) for path in task], task)))
            if len(pending) > _AHEAD * threads:
                done, future = pending.popleft()
                yield from zip(done, future.result(), strict=True)
        for done, future in pending:
            yield from zip(done, future.result(), strict=True)


def render(answers: Sequence[tuple[Path, Decision]], classes: Sequence[str], form: str) -> str:
    """Return answers as `table`, `json` (a list of objects) or `csv` (one column per class)."""
    if form == "json":
        plain = [
            {"path": str(path), "label": answer.label, "probabilities": answer.probabilities}
            | ({} if answer.known is None else {"known": answer.known})
            for path, answer in answers
        ]
        return json.dumps(plain, indent=2, ensure_ascii=False)
    with_score = any(answer.known is not None for _, answer in answers)
    head = ["path", "label", *classes, *(["known"] if with_score else [])]
    lines: list[list[Any]] = [
        [str(path), answer.label, *answer.probabilities.values(), *([answer.known] if with_score else [])]
        for path, answer in answers
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
    formats = ("table", "json", "csv")
    parser.add_argument("--format", choices=formats, default="table", help="of the output (default: table)")


def main(arguments: argparse.Namespace) -> int:
    """Classify the photos and print the answers."""
    paths = _find(arguments.photos)
    model = load_source(arguments.model)
    if arguments.format == "csv" and (taken := _COLUMNS & {*model.manifest.classes}):
        raise PipelineError(
            f"the class {min(taken)!r} has the name of a column of the CSV file: use --format json"
        )
    answers: list[tuple[Path, Decision]] = []
    failures: list[str] = []
    stream = predict(model, paths)
    for path, answer in tqdm(stream, "photos", len(paths), disable=len(paths) < _MANY, mininterval=1):
        if isinstance(answer, str):
            failures.append(f"{path}: {answer}")
        else:
            answers.append((path, answer))
    if answers or arguments.format == "json":
        say(render(answers, model.manifest.classes, arguments.format))
    if failures:
        note("\n".join([*failures, f"{len(failures)} of {len(paths)} can't be used"]))
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
