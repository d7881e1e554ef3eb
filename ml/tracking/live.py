"""A labelled batch that the live service answered, as an MLflow run beside the one that made its model."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlflow
from mlflow import MlflowClient

from ml.params import Tracking
from ml.tracking import registry, tracked


@dataclasses.dataclass(frozen=True)
class Served:
    """Who answered.

    Attributes:
        url: of the service, without anything secret.
        version: of the model.
        sha256: of its file, in hexadecimal.
    """

    url: str
    version: str
    sha256: str


def log(params: Tracking, served: Served, figures: Mapping[str, float], files: Sequence[Path]) -> str:
    """Log a batch as a run, and link it with the registered version that answered, if there is one.

    The version's tags `live_run_id` and `live_accuracy` tell of the newest batch.

    Args:
        params: names of experiment and registered model.
        served: who answered.
        figures: by name; logged with `live_` before it.
        files: logged with the run.

    Returns:
        The run's id.

    Raises:
        MlflowException: the store can't be used.
    """
    with tracked(params) as run_id:
        mlflow.set_tag("mlflow.runName", f"live {served.version}")
        tags = {"stage": "live", "url": served.url, "model_version": served.version, "sha256": served.sha256}
        mlflow.set_tags(tags)
        mlflow.log_metrics({f"live_{name}": value for name, value in figures.items()})
        for file in files:
            mlflow.log_artifact(str(file), "live")
        registered = registry.find(params.model, served.version, served.sha256)
        if registered is not None:
            mlflow.set_tag("registered_version", f"{params.model}/{registered.version}")
            mlflow.set_tag("training_run_id", registered.run_id or "")
            client = MlflowClient()
            news = {"live_run_id": run_id, "live_accuracy": f"{figures['accuracy']:.6f}"}
            for name, value in news.items():
                client.set_model_version_tag(params.model, registered.version, name, value)
    return run_id
