"""MLflow: one run for train, evaluate and package, in a local SQLite store or MLFLOW_TRACKING_URI."""

import os
import subprocess
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import mlflow
from mlflow.exceptions import MlflowException
from ruamel.yaml import YAML
from sqlalchemy.exc import SQLAlchemyError

from ml.errors import PipelineError
from ml.params import Tracking

LOCAL_STORE = "sqlite:///mlflow.db"


def use_store() -> None:
    """Point MLflow at the store."""
    mlflow.set_tracking_uri(os.environ.get("MLFLOW_TRACKING_URI") or LOCAL_STORE)


@contextmanager
def tracked(params: Tracking, run_id: str | None = None) -> Iterator[str]:
    """Log into the run of that id, or into a new one where the store doesn't hold it, and yield its id.

    Raises:
        PipelineError: the database can't be used, such as one that a kill left half made.
    """
    use_store()
    try:
        mlflow.set_experiment(params.experiment)
    except SQLAlchemyError as error:
        store = (os.environ.get("MLFLOW_TRACKING_URI") or LOCAL_STORE).rpartition("/")[2]
        told = " ".join(str(error).splitlines()[0].split())
        raise PipelineError(
            f"MLflow's database {store} can't be used ({told:.120}): mend it or move it away, and call again"
        ) from error
    if run_id and not _exists(run_id):
        run_id = None
    with mlflow.start_run(run_id=run_id) as run:
        yield run.info.run_id


def _exists(run_id: str) -> bool:
    try:
        mlflow.get_run(run_id)
    except MlflowException:
        return False
    return True


def git_commit() -> str:
    """Return the commit that is checked out, with `-dirty` where files differ from it, or an empty string."""
    try:
        described = subprocess.run(
            ["git", "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*"],  # noqa: S607
            capture_output=True,
            text=True,
            check=True,
        )
    except (OSError, subprocess.CalledProcessError):
        return ""
    return described.stdout.strip()


def dataset_md5() -> str:
    """Return the MD5 that DVC gave the ingested photos, or an empty string before DVC knows them."""
    try:
        lock = YAML(typ="safe").load(Path("dvc.lock"))
        return str(lock["stages"]["ingest"]["outs"][0]["md5"])
    except (OSError, KeyError, TypeError, IndexError):
        return ""


def flatten(tree: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Turn nested parameters into dotted names."""
    flat: dict[str, object] = {}
    for name, value in tree.items():
        flat |= (
            flatten(value, f"{prefix}{name}.") if isinstance(value, Mapping) else {f"{prefix}{name}": value}
        )
    return flat


def log_figures(folder: Path) -> None:
    """Log every file of a stage's report beside the run."""
    mlflow.log_artifacts(str(folder), artifact_path=folder.name)
