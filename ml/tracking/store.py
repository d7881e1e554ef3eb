"""The MLflow store, a local SQLite database or the server that MLFLOW_TRACKING_URI names, and its runs."""

import os
import re
import zlib
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path

import mlflow
from mlflow.entities import LifecycleStage
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from ml.cli import note
from ml.data.dataset import Dataset
from ml.model.errors import PipelineError, one_line
from ml.params import Params, Tracking
from ml.paths import PREPARE_REPORT
from ml.tracking.provenance import dataset_md5, flatten, git_commit, publishable

LOCAL_STORE = "sqlite:///mlflow.db"
LATER = "`python -m ml register` logs it later"
"""What happens to a run that couldn't be logged."""

# MLflow itself waits 4 minutes if nothing listens, and 20 if a server never answers. It reads these
# variables at each request; what the user has set holds.
_RETRIES = {"MAX_RETRIES": "3", "BACKOFF_FACTOR": "1", "TIMEOUT": "30"}
_CHECK_RETRIES = {"MAX_RETRIES": "2", "BACKOFF_FACTOR": "1", "TIMEOUT": "5"}
_DEFAULTED = {name for name in _RETRIES if f"MLFLOW_HTTP_REQUEST_{name}" not in os.environ}
os.environ |= {f"MLFLOW_HTTP_REQUEST_{name}": _RETRIES[name] for name in _DEFAULTED}

_REJECTED = re.compile(r"[^\w.\- ]")
"""Characters that MLflow rejects in the name of a metric; on Windows a colon is one of them."""
_MAX_KEY, _MAX_METRICS = 250, 1000
"""Characters of a name, and metrics that MLflow takes at once."""


class StoreError(PipelineError):
    """MLflow cannot be used; the message says why."""


def use_store(params: Tracking) -> None:
    """Connect MLflow to the store and select the experiment; see `reported` for the errors."""
    mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI") or LOCAL_STORE)
    mlflow.set_experiment(params.experiment)


def check(params: Tracking) -> None:
    """Check within seconds that the store can be used.

    Raises:
        StoreError: see `reported`.
    """
    with reported(), _checking():
        use_store(params)


@contextmanager
def reported() -> Iterator[None]:
    """Report what goes wrong with MLflow inside the block.

    Raises:
        StoreError: the server cannot be reached or rejects a request, or the database cannot be used, for
            example because a killed process left it incomplete.
    """
    try:
        yield
    except MlflowException as error:
        raise StoreError(f"MLflow at {_address()} cannot be used: {_reason(error)}") from error
    except SQLAlchemyError as error:
        name = mlflow.get_tracking_uri().rpartition("/")[2]
        raise StoreError(
            f"MLflow cannot use its database {name} ({one_line(str(error), 120)}): repair it or move it "
            "away, and try again"
        ) from error


@contextmanager
def or_later(consequence: str) -> Iterator[None]:
    """Go on if MLflow cannot be used inside the block, and say so: no result must be lost because of that."""
    try:
        yield
    except StoreError as error:
        note(f"warning: {error}; {consequence}")


@contextmanager
def tracked(params: Tracking, run_id: str | None = None) -> Iterator[str]:
    """Log to the run of that id, or to a new one if the store has no such run; yield the id of the run.

    Raises:
        StoreError: see `reported`.
    """
    check(params)
    with reported():
        resumed = run_id if run_id and has_run(run_id) else None
        if resumed:  # its experiment may have been renamed since, here or in MLflow
            mlflow.set_experiment(experiment_id=mlflow.get_run(resumed).info.experiment_id)
        run = mlflow.start_run(run_id=resumed)
        try:
            yield run.info.run_id
        except BaseException:
            with _checking(), suppress(Exception):
                mlflow.end_run("FAILED")
            raise
        mlflow.end_run()


@contextmanager
def transferring() -> Iterator[None]:
    """Report what goes wrong while files are copied to or from the store.

    Raises:
        StoreError: what keeps the files for MLflow failed. It has errors of its own, such as boto's.
    """
    try:
        yield
    except (PipelineError, MlflowException):
        raise
    except Exception as error:
        raise StoreError(f"MLflow at {_address()} cannot be used: {_reason(error)}") from error


def log_folder(folder: Path, name: str) -> None:
    """Log a folder to the active run, under a name."""
    with transferring():
        mlflow.log_artifacts(str(folder), name)


@contextmanager
def _checking() -> Iterator[None]:
    for name in _DEFAULTED:
        os.environ[f"MLFLOW_HTTP_REQUEST_{name}"] = _CHECK_RETRIES[name]
    try:
        yield
    finally:
        for name in _DEFAULTED:
            os.environ[f"MLFLOW_HTTP_REQUEST_{name}"] = _RETRIES[name]


def _address() -> str:
    """Return the address of the store without a password."""
    return re.sub("//[^/@]*@", "//", mlflow.get_tracking_uri())


def _reason(error: Exception) -> str:
    """Return the innermost cause, without the chain of urllib3's messages."""
    text = one_line(str(error), 2000)
    causes = re.findall(r"Caused by \w+\((.*)\)", text)
    innermost = re.sub(r"['\"]\)+$", "", causes[-1].rpartition("): ")[2]) if causes else text
    return one_line(innermost, 200)


def log_metrics(metrics: Mapping[str, float], prefix: str = "", step: int | None = None) -> None:
    """Log metrics to the active run, as `prefix` and name.

    A name may contain that of a class, see `metric_key`.
    """
    keys = {metric_key(prefix + name): value for name, value in metrics.items()}
    items = list(keys.items())
    for first in range(0, len(items), _MAX_METRICS):
        mlflow.log_metrics(dict(items[first : first + _MAX_METRICS]), step=step)


def metric_key(name: str) -> str:
    """Return the name under which MLflow has a metric.

    Each character that MLflow rejects becomes its code, such as `.26` for `&`. A long name ends with a
    checksum.
    """
    key = _REJECTED.sub(lambda match: f".{ord(match[0]):x}", name)
    return key if len(key) <= _MAX_KEY else f"{key[: _MAX_KEY - 9]}.{zlib.crc32(key.encode()):08x}"


def log_training(
    params: Params,
    data: Dataset,
    history: Sequence[Mapping[str, float]],
    choices: Sequence[Mapping[str, float]],
) -> str:
    """Log the training as a new run; return the id of the run.

    `history` holds `epoch` and metrics of each epoch, `choices` the weight averages that were tried, the one
    that is used first, with their `val_loss`. Of the recipes, only the one that was used is logged.
    """
    with tracked(params.tracking) as run_id:
        used = params.model_dump(exclude={"tracking", "recipes"}) | {"recipe": params.recipe.model_dump()}
        mlflow.log_params(publishable(flatten(used)))
        tags = {"git_commit": git_commit(), "dataset_md5": dataset_md5(), "test_digest": data.digest("test")}
        mlflow.set_tags(tags | {"classes": ",".join(data.classes)})
        for epoch in history:
            metrics = {name: value for name, value in epoch.items() if name != "epoch"}
            log_metrics(metrics, step=int(epoch["epoch"]))
        mlflow.log_metric("averaged_val_loss", choices[0]["val_loss"])
        with transferring():
            mlflow.log_dict({"tried": list(choices)}, "choices.json")
        if PREPARE_REPORT.is_dir():
            log_folder(PREPARE_REPORT, PREPARE_REPORT.name)
        return run_id


def has_run(run_id: str) -> bool:
    """Return whether the store has a run of that id that is not deleted."""
    try:
        return bool(mlflow.get_run(run_id).info.lifecycle_stage == LifecycleStage.ACTIVE)
    except MlflowException:
        return False
