"""Classify any number of photos, and write the answers to a Parquet dataset.

The dataset has the columns path, sha256, width, height, label, confidence, probabilities, known, error and
model_version, and one row per photo; that of a photo that cannot be used has an error. A run that was ended
is continued by the same command.

Exit code 0: each photo has exactly one row. 1: a photo has no row or several, or there was an error.
"""

import argparse
import importlib
import os
import tempfile
from collections.abc import Iterator
from itertools import chain
from pathlib import Path
from typing import TYPE_CHECKING

from tqdm import tqdm

from ml import local_model
from ml.cli import note, say, whole_number
from ml.model.errors import PipelineError, one_line
from ml.model.partial import sha256_of

if TYPE_CHECKING:
    from ml.scoring.output import Output, Summary

EXAMPLE = "python -m ml score s3://bucket/photos s3://bucket/answers"

_NO_PYARROW = "this command needs pyarrow: pip install -r requirements-train.txt"
_NO_RAY = (
    "--engine ray needs Ray, which is not installed: use --engine threads, or install Ray (docs/scale.md)"
)
_SHOWN = 10  # labels or errors


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    parser.add_argument(
        "source",
        metavar="SOURCE",
        help="a folder, s3://BUCKET/PREFIX, gs://BUCKET/PREFIX, or a .parquet or .csv file with a column "
        "`path` or `url`",
    )
    parser.add_argument("out", metavar="OUT", help="a folder, s3://BUCKET/PREFIX or gs://BUCKET/PREFIX")
    parser.add_argument(
        "--model",
        metavar="FILE|URL",
        help="a model.pt; default: models/model.pt if it exists, else the model embedded in the service",
    )
    parser.add_argument(
        "--engine",
        choices=("auto", "threads", "ray"),
        default="auto",
        help="threads of this machine, or Ray; default: Ray if RAY_ADDRESS names a cluster",
    )
    parser.add_argument(
        "--threads",
        type=whole_number(1, 1024),
        help="default: one per CPU, or 8 per CPU if the first photo is not on this machine",
    )
    parser.add_argument(
        "--part-rows",
        type=whole_number(1, 1_000_000),
        default=10_000,
        help="rows of a Parquet file of OUT; default: 10000",
    )
    parser.add_argument(
        "--retry-errors", action="store_true", help="score again the photos whose row has an error"
    )


def main(arguments: argparse.Namespace) -> int:
    """Score the photos, and print the summary."""
    try:
        from ml.scoring import local, sources
        from ml.scoring.output import Output
    except ImportError as error:
        raise PipelineError(_NO_PYARROW) from error
    engine = arguments.engine
    if engine == "auto":
        engine = "ray" if os.environ.get("RAY_ADDRESS") else "threads"
    source = sources.canonical(arguments.source)
    with tempfile.TemporaryDirectory() as folder, Output(arguments.out, arguments.part_rows) as output:
        model = local_model.download(arguments.model, Path(folder))
        local_model.load(model)  # OUT is begun only with a model and a source that can be used
        listed = sources.list_photos(source)
        if (first := next(listed, None)) is None:
            raise PipelineError(f"no photos in {one_line(source)}")
        output.begin(source, sha256_of(model), arguments.retry_errors)
        if present := output.present():
            note(f"{present:,} photos have a row already")
        paths = output.remaining(chain([first], listed))
        with tqdm(unit=" photos", mininterval=1) as progress:
            output.report = progress.update
            if engine == "ray":
                note("engine: ray")
                _run_ray(paths, str(model), output)
            else:
                local.run(paths, str(model), output, arguments.threads)
        summary = output.summary()
    say(render(summary))
    return int(not summary.complete)


def render(summary: "Summary") -> str:
    """Return the summary as lines for people."""
    rate = summary.scored / summary.seconds if summary.seconds else 0.0
    lines = [
        f"photos  {summary.listed:,} listed, {summary.rows:,} rows",
        f"run     {summary.scored:,} photos in {summary.seconds:,.1f} s, {rate:,.1f} per second",
    ]
    for name, counts in (("labels", summary.labels), ("errors", summary.errors)):
        lines.append(f"{name}  {counts.total():,}")
        lines += [f"        {count:,} {value}" for value, count in counts.most_common(_SHOWN)]
    if summary.missing:
        lines.append(f"{summary.missing:,} photos have no row: run the same command again")
    if summary.doubled:
        lines.append(f"{summary.doubled:,} photos have several rows: two runs wrote at the same time")
    return "\n".join(lines)


def _run_ray(paths: Iterator[str], model: str, output: "Output") -> None:
    try:
        engine = importlib.import_module("ml.scoring.ray_engine")
    except ImportError as error:
        raise PipelineError(_NO_RAY) from error
    engine.run(paths, model, output)
