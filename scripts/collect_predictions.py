"""Send labelled photos to the live service, and report how good its answers are.

Writes the answers as JSON, and as a CSV table beside it; prints accuracy and log loss with their confidence
intervals, the confusion matrix and the latency; logs all of it as an MLflow run that is linked with the
registered version of the model that answered; sends the true labels to /feedback. If API_KEY is set, it is
sent as X-API-Key.

A photo that the service rejects (400, 413, 415, 422) is listed and left out of the accuracy; the accuracy
with such photos counted as wrong is printed too. A photo that is answered as unknown counts by its likeliest
class.

The exit code is 1 if the accuracy is below --min-accuracy, if a photo is left without an answer after all
attempts, or if nothing is answered. It is 3 if the accuracy is below the one on the model's test photos: the
two confidence intervals don't overlap.
"""

import argparse
import datetime
import importlib.util
import math
import sys
import tempfile
from pathlib import Path
from typing import Any

from ml.model.errors import PipelineError
from ml.model.urls import public
from scripts.common import arguments
from scripts.common.process import ROOT
from scripts.common.web import RequestError, printable
from scripts.live_check.batch import Batch
from scripts.live_check.endpoint import Endpoint
from scripts.live_check.sending import PhotoSender, examples, labelled, sample

_WORSE = 3
"""Exit code if the accuracy is below the one on the test photos."""


def log(endpoint: Endpoint, model: dict[str, Any], batch: Batch, files: list[Path]) -> None:
    """Log the batch as an MLflow run, and print the run's id.

    Raises:
        PipelineError: the tracking store cannot be used, or params.yaml is not valid.
    """
    from ml import params
    from ml.evaluation import plots
    from ml.registry import live

    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder, "confusion_matrix.png")
        plots.confusion_matrix(batch.probabilities, batch.labels, batch.classes, picture, "Live batch")
        served = live.Served(endpoint.url, model["version"], model["sha256"])
        tracking = params.load(ROOT / "params.yaml").tracking
        run_id = live.log(tracking, served, batch.figures, [*files, picture])
    print(f"MLflow run {run_id}")


def main() -> int:
    """Run the command line; return the exit code."""
    options = _parse()
    try:
        with tempfile.TemporaryDirectory() as folder:
            return _run(options, Path(folder))
    except (RequestError, PipelineError, OSError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        return 130


def _run(options: argparse.Namespace, folder: Path) -> int:
    endpoint = Endpoint(options.url, options.patience)
    model = endpoint.model()
    if options.data is None:
        data, root, photos = f"{endpoint.url}/model/examples", folder, examples(endpoint, folder)
    else:
        data = public(options.data)
        root, photos = labelled(options.data, folder)
    classes = tuple(model["classes"])
    if unexpected := sorted({photo.label or "" for photo in photos} - set(classes)):
        names = ", ".join(map(printable, classes))
        raise PipelineError(f"{data}: the model has no class {', '.join(unexpected)}; it has {names}")
    started = datetime.datetime.now(datetime.UTC)
    if options.max_photos:
        photos = sample(photos, options.max_photos)
    sender = PhotoSender(endpoint, classes, root, options.feedback)
    batch = Batch(sender.run(photos, options.concurrency), classes)
    described = {name: model.get(name) for name in ("version", "sha256", "arch", "engine", "classes")}
    origin = {"url": endpoint.url, "started": started.isoformat(timespec="seconds"), "data": data}
    files = batch.write(options.out, origin | {"model": described})
    print(
        f"{endpoint.url} answers by model {printable(model['version'])} ({printable(model['sha256'])[:12]})"
    )
    batch.print_summary()
    problems = _problems(options, endpoint, model, batch)
    if options.mlflow and batch.figures:
        log(endpoint, model, batch, files)
    worse = _below_test(model, batch)
    for problem in [*problems, *worse]:
        print(f"failed: {problem}", file=sys.stderr)
    return _WORSE if worse else int(bool(problems))


def _problems(
    options: argparse.Namespace, endpoint: Endpoint, model: dict[str, Any], batch: Batch
) -> list[str]:
    """Return the reasons for which the run fails; print what the user should only know."""
    others = {version: count for version, count in batch.versions.items() if version != model["version"]}
    try:
        changed = endpoint.model()["sha256"] != model["sha256"]
    except RequestError as error:
        changed = False
        print(f"warning: {error}", file=sys.stderr)
    if others or changed:
        print(f"warning: the model changed during the batch: {dict(batch.versions)}")
    not_accepted = sum(row.feedback != 204 for row in batch.answered)
    if options.feedback:
        print(f"feedback: {len(batch.answered) - not_accepted} true labels sent, {not_accepted} not accepted")
    problems = []
    if not batch.answered:
        problems.append("no photo was answered")
    if batch.failed:
        problems.append(f"{len(batch.failed)} photos are left without an answer")
    if batch.figures and batch.figures["accuracy"] < options.min_accuracy:
        problems.append(f"accuracy {batch.figures['accuracy']:.4f} is below {options.min_accuracy}")
    return problems


def _below_test(model: dict[str, Any], batch: Batch) -> list[str]:
    """Return that the accuracy is below the one on the test photos, if it is, by their intervals.

    The balanced one must be below, too: the shares of the classes may differ from those of the test photos.
    """
    metrics, worse = model.get("metrics"), []
    for name in ("balanced_accuracy", "accuracy"):
        low = metrics.get(f"{name}_low") if isinstance(metrics, dict) else None
        high = batch.figures.get(f"{name}_high")
        if isinstance(low, int | float) and high is not None:
            worse.append((high, low, name.replace("_", " ")))
    if not worse or any(high >= low for high, low, _ in worse):
        return []
    high, low, name = worse[-1]
    return [f"{name} is at most {high:.4f}, and at least {low:.4f} on the model's test photos"]


def _parse() -> argparse.Namespace:
    parser = arguments.parser(
        "collect_predictions", __doc__, "http://localhost:8080 --data photos --min-accuracy 0.97"
    )
    add = parser.add_argument
    add("url", help="URL of the service")
    add(
        "--data",
        help="folder with one subfolder per class, a .zip file of one, or the URL of such a file "
        "(default: the example photos that the service offers)",
    )
    add("--concurrency", type=int, default=4, help="photos sent at the same time (default: 4)")
    add(
        "--out",
        type=Path,
        default=Path("predictions_batch.json"),
        help="JSON file; the CSV file gets the same name (default: predictions_batch.json)",
    )
    add("--min-accuracy", type=float, default=0.0, help="accuracy below which it fails (default: 0)")
    add(
        "--max-photos",
        type=int,
        default=0,
        help="size of a sample, even over the classes; 0: all (default: 0)",
    )
    add("--patience", type=float, default=180.0, help="seconds for all attempts of a request (default: 180)")
    add("--no-mlflow", dest="mlflow", action="store_false", help="log no MLflow run")
    add("--no-feedback", dest="feedback", action="store_false", help="send no true labels")
    options = parser.parse_args()
    if not (1 <= options.concurrency <= 256 and 0 <= options.min_accuracy <= 1 and options.max_photos >= 0):
        parser.error(
            "--concurrency must be from 1 to 256, --min-accuracy from 0 to 1, --max-photos at least 0"
        )
    if not options.out.name or options.out.suffix.lower() == ".csv":
        parser.error("--out names the JSON file, such as predictions.json; the CSV file is written beside it")
    if not 0 < options.patience < math.inf:
        parser.error("--patience must be positive")
    if options.mlflow and not importlib.util.find_spec("mlflow"):
        parser.error("mlflow is not installed; run pip install -r requirements-train.txt, or add --no-mlflow")
    return options


if __name__ == "__main__":
    sys.exit(main())
