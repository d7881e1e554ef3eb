"""MLflow's store: what can't be used is said."""

import sqlite3

import pytest

from ml.errors import PipelineError
from ml.params import Tracking
from ml.tracking import tracked


# MLflow and Alembic warn of what is theirs.
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_half_made_database_is_named(tmp_path, monkeypatch) -> None:
    # An address of its own: MLflow keeps a process's stores by theirs.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    # Killed after a column was added and before that was noted.
    with sqlite3.connect(tmp_path / "mlflow.db") as half_made:
        half_made.execute("CREATE TABLE metrics (key, value, timestamp, run_uuid, step)")
    half_made.close()
    with (
        pytest.raises(PipelineError, match=r"mlflow\.db can't be used .*duplicate column"),
        tracked(Tracking(experiment="one", model="one")),
    ):
        pass
