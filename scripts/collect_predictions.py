#!/usr/bin/env python3
"""Have the live service answer photos whose labels are known, and say how good its answers are.

usage: collect_predictions.py URL --data PHOTOS [--min-accuracy 0.97] [--out predictions_batch.json]

PHOTOS is a folder with one subfolder a class, a .zip of one, or the URL of such a .zip. Writes the answers to
--out and, as a table, to a .csv beside it; prints accuracy and log loss with their intervals, the confusion
matrix and the latency; logs all of it as an MLflow run that is linked with the registered version of the
model that answered; sends the true labels to /feedback. API_KEY in the environment is sent as X-API-Key.

A photo that the service refuses (400, 413, 415, 422) is listed, and left out of the accuracy; beside it
stands the accuracy with such photos counted as wrong. One that is answered as unknown counts by its likeliest
class, and how many these are is told. Exit code 1 where the accuracy is under
--min-accuracy, where a photo is left without an answer after all attempts, or nothing is answered.
"""

import argparse
import datetime
import importlib.util
import math
import os
import sys
import tempfile
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit, urlunsplit

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from collecting.batch import Batch  # noqa: E402
from collecting.collector import Collector  # noqa: E402
from collecting.endpoint import Endpoint  # noqa: E402
from collecting.labelled import drawn, labelled  # noqa: E402
from common.patient import ServiceError, one_line  # noqa: E402

from ml.errors import PipelineError  # noqa: E402


def log(endpoint: Endpoint, model: dict[str, Any], batch: Batch, files: list[Path]) -> None:
    """Log the batch as an MLflow run; say which.

    Raises:
        PipelineError: the store can't be used, or params.yaml.
    """
    from mlflow.exceptions import MlflowException

    from ml import params
    from ml.evaluation import plots
    from ml.tracking import live

    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "confusion_matrix.png")
        plots.confusion_matrix(batch.probabilities, batch.labels, batch.classes, picture, "Live batch")
        served = live.Served(endpoint.url, model["version"], model["sha256"])
        try:
            tracking = params.load(ROOT / "params.yaml").tracking
            run_id = live.log(tracking, served, batch.figures, [*files, picture])
        except MlflowException as error:
            raise PipelineError(f"MLflow: {one_line(str(error))}") from error
    print(f"MLflow run {run_id}")


def main() -> int:
    """Run as the command line says."""
    options = _parsed()
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _run(options, Path(folder))
    except (ServiceError, PipelineError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(options: argparse.Namespace, folder: Path) -> int:
    endpoint = Endpoint(options.url, os.environ.get("API_KEY"), options.patience)
    root, found = labelled(options.data, folder)
    model = endpoint.model()
    classes = tuple(model["classes"])
    if strange := sorted({photo.label or "" for photo in found} - set(classes)):
        names = ", ".join(map(one_line, classes))
        raise PipelineError(
            f"{_public(options.data)}: the model has no class {', '.join(strange)}; it has {names}"
        )
    started = datetime.datetime.now(datetime.UTC)
    if options.max_photos:
        found = drawn(found, options.max_photos)
    batch = Batch(
        Collector(endpoint, classes, root, options.feedback).run(found, options.concurrency), classes
    )
    about: dict[str, Any] = {
        "url": endpoint.url,
        "started": started.isoformat(timespec="seconds"),
        "data": _public(options.data),
    }
    about["model"] = {name: model.get(name) for name in ("version", "sha256", "arch", "engine", "classes")}
    files = batch.write(options.out, about)
    print(f"{endpoint.url} answers by model {one_line(model['version'])} ({one_line(model['sha256'])[:12]})")
    batch.tell()
    problems = _problems(options, endpoint, model, batch)
    if options.mlflow and batch.figures:
        log(endpoint, model, batch, files)
    for problem in problems:
        print(f"failed: {problem}", file=sys.stderr)
    return int(bool(problems))


def _public(data: str) -> str:
    """Return a path or URL without what may be secret in it."""
    parts = urlsplit(data)
    if parts.scheme in ("http", "https"):
        return urlunsplit((parts.scheme, parts.netloc.rpartition("@")[2], parts.path, "", ""))
    return data


def _problems(
    options: argparse.Namespace, endpoint: Endpoint, model: dict[str, Any], batch: Batch
) -> list[str]:
    """Return for what the run fails; print what is only worth knowing."""
    others = {version: count for version, count in batch.versions.items() if version != model["version"]}
    try:
        changed = endpoint.model()["sha256"] != model["sha256"]
    except ServiceError as error:
        changed = False
        print(f"warning: {error}", file=sys.stderr)
    if others or changed:
        print(f"warning: the model changed while the batch ran: {dict(batch.versions)}")
    untold = sum(row.feedback != 204 for row in batch.answered)
    if options.feedback:
        print(f"feedback: {len(batch.answered) - untold} true labels sent, {untold} not taken")
    problems = []
    if not batch.answered:
        problems.append("no photo was answered")
    if batch.failed:
        problems.append(f"{len(batch.failed)} photos are left without an answer")
    if batch.figures and batch.figures["accuracy"] < options.min_accuracy:
        problems.append(f"accuracy {batch.figures['accuracy']:.4f} is under {options.min_accuracy}")
    return problems


def _parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("--data", required=True, help="folder, .zip or URL of a .zip")
    parser.add_argument("--concurrency", type=int, default=4, help="photos at once (default: 4)")
    parser.add_argument("--out", type=Path, default=Path("predictions_batch.json"))
    parser.add_argument("--min-accuracy", type=float, default=0.0)
    parser.add_argument("--max-photos", type=int, default=0, help="so many, evenly from the classes; 0: all")
    parser.add_argument(
        "--patience", type=float, default=180.0, help="seconds for all attempts of a request (default: 180)"
    )
    parser.add_argument("--no-mlflow", dest="mlflow", action="store_false")
    parser.add_argument("--no-feedback", dest="feedback", action="store_false")
    options = parser.parse_args()
    if not (1 <= options.concurrency <= 256 and 0 <= options.min_accuracy <= 1 and options.max_photos >= 0):
        parser.error("--concurrency from 1 to 256, --min-accuracy from 0 to 1, --max-photos from 0 on")
    if not 0 < options.patience < math.inf:
        parser.error("--patience must be positive")
    if options.mlflow and not importlib.util.find_spec("mlflow"):
        parser.error("mlflow is not installed: pip install -r requirements-train.txt, or --no-mlflow")
    return options


if __name__ == "__main__":
    sys.exit(main())
