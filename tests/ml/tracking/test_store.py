"""The MLflow store: it takes the metrics of all classes; one that cannot be used is reported."""

import errno
import socket
import sqlite3
import threading
from contextlib import suppress
from types import SimpleNamespace

import mlflow
import pytest

from ml.model.errors import PipelineError
from ml.params import Params, Tracking
from ml.tracking import store
from ml.tracking.store import check, log_metrics, log_training, metric_key, or_later, tracked, transferring
from tests.helpers.params import default_params


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
        pytest.raises(
            PipelineError, match=r"^MLflow at http://127\.0\.0\.1:9 cannot be used: [^\n]*refused$"
        ),
        tracked(Tracking(experiment="one", model="one")),
    ):
        pass


def test_a_server_that_never_answers_gets_few_requests(monkeypatch) -> None:
    """MLflow's own patience is 8 requests of 120 s each, for each call."""
    requests = []
    with socket.create_server(("127.0.0.1", 0)) as server:

        def accept() -> None:
            with suppress(OSError):
                while True:
                    requests.append(server.accept()[0])

        thread = threading.Thread(target=accept, daemon=True)
        thread.start()
        monkeypatch.setenv("MLFLOW_TRACKING_URI", f"http://127.0.0.1:{server.getsockname()[1]}")
        monkeypatch.setitem(store._CHECK_RETRIES, "TIMEOUT", "1")
        with pytest.raises(PipelineError, match=r"MLflow at .* cannot be used: Read timed out"):
            check(Tracking(experiment="one", model="one"))
        server.shutdown(socket.SHUT_RDWR)
        thread.join()
    assert len(requests) == 3
    for request in requests:
        request.close()


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_what_goes_wrong_while_a_run_is_logged_is_one_warning(tmp_path, monkeypatch, capsys) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with (
        or_later("it is logged later"),
        tracked(Tracking(experiment="one", model="one")) as run_id,
        transferring(),
    ):
        raise OSError(errno.ENOSPC, "No space left on device")
    assert mlflow.get_run(run_id).info.status == "FAILED"
    assert mlflow.active_run() is None
    (line,) = capsys.readouterr().err.splitlines()[-1:]
    assert line.startswith("warning: MLflow at sqlite:///")
    assert line.endswith("No space left on device; it is logged later")


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_fault_of_our_own_is_not_blamed_on_the_store(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with pytest.raises(KeyError), or_later("never"), tracked(Tracking(experiment="one", model="one")):
        raise KeyError("twin")
    assert mlflow.active_run() is None


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_a_secret_in_the_source_is_not_logged(tmp_path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    plain = default_params().model_dump()
    plain["ingest"]["source"] = "https://me:secret@example.org/a.zip?token=secret"
    data = SimpleNamespace(classes=("blue", "red"), digest=lambda split: "0" * 64)
    run_id = log_training(Params.model_validate(plain), data, [], [{"val_loss": 0.5}])
    logged = mlflow.get_run(run_id).data.params
    assert logged["ingest.source"] == "https://example.org/a.zip"
    assert "secret" not in str(logged)


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
@pytest.mark.filterwarnings("ignore::ResourceWarning")
def test_metrics_of_classes_with_any_names(tmp_path, monkeypatch) -> None:
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    names = [
        "cat",
        "a&b",
        "a(b), 'c' + 50% #1 = @ [d]; !",
        "..",
        "a//b",
        "\N{CAT}",
        "\N{CAT}" * 100,
        "Vögel",
        "a:b",
    ]
    metrics = {f"recall_{name}": number / 16 for number, name in enumerate(names)}
    many = {f"recall_{number}": 0.5 for number in range(2500)}
    with tracked(Tracking(experiment="one", model="one")) as run_id:
        log_metrics(metrics, "test_")
        log_metrics(many)
    logged = mlflow.get_run(run_id).data.metrics
    assert logged == {metric_key(f"test_{name}"): value for name, value in metrics.items()} | many
    assert logged["test_recall_cat"] == 0
    assert logged["test_recall_a.26b"] == 1 / 16
