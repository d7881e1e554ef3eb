"""The MLflow store: a database that cannot be used is reported."""

import sqlite3

import pytest

from ml.model.errors import PipelineError
from ml.params import Tracking
from ml.tracking.store import tracked


# Warnings from inside MLflow and Alembic.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_an_incomplete_database_is_named(tmp_path, monkeypatch) -> None:
    # An address of its own, because MLflow caches the stores of a process by address.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    # A migration that was killed after it added a column and before it recorded that.
    with sqlite3.connect(tmp_path / "mlflow.db") as incomplete:
        incomplete.execute("CREATE TABLE metrics (key, value, timestamp, run_uuid, step)")
    incomplete.close()
    with (
        pytest.raises(PipelineError, match=r"cannot use its database mlflow\.db .*duplicate column"),
        tracked(Tracking(experiment="one", model="one")),
    ):
        pass


def test_an_unreachable_server_is_reported(monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with (
        pytest.raises(PipelineError, match=r"^MLflow cannot be used: [^\n]*127\.0\.0\.1"),
        tracked(Tracking(experiment="one", model="one")),
    ):
        pass
