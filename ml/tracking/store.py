"""The MLflow store: a local SQLite database, or the server that MLFLOW_TRACKING_URI names."""

import os
from collections.abc import Iterator
from contextlib import contextmanager

import mlflow
from mlflow.exceptions import MlflowException
from sqlalchemy.exc import SQLAlchemyError

from ml.model.errors import PipelineError
from ml.params import Tracking

LOCAL_STORE = "sqlite:///mlflow.db"


def use_store(params: Tracking) -> None:
    """Connect MLflow to the store and select the experiment.

    Raises:
        PipelineError: the database cannot be used, for example because a killed process left it incomplete.
        MlflowException: the server cannot be reached, or rejects the request.
    """
    uri = os.environ.get("MLFLOW_TRACKING_URI") or LOCAL_STORE
    mlflow.set_tracking_uri(uri)
    try:
        mlflow.set_experiment(params.experiment)
    except SQLAlchemyError as error:
        raise PipelineError(
            f"MLflow cannot use its database {uri.rpartition('/')[2]} ({one_line(error, 120)}): repair it or "
            "move it away, and try again"
        ) from error


@contextmanager
def tracked(params: Tracking, run_id: str | None = None) -> Iterator[str]:
    """Log to the run of that id, or to a new one if the store has no such run; yield the id of the run.

    Raises:
        PipelineError: see `use_store`.
        MlflowException: see `use_store`.
    """
    use_store(params)
    with mlflow.start_run(run_id=run_id if run_id and _exists(run_id) else None) as run:
        yield run.info.run_id


def _exists(run_id: str) -> bool:
    try:
        mlflow.get_run(run_id)
    except MlflowException:
        return False
    return True


def one_line(error: Exception, length: int = 200) -> str:
    """Return an error's message on one line, cut to `length` characters."""
    return " ".join(str(error).split())[:length]
