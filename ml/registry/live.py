"""Logs labeled photos that the live service classified, as an MLflow run linked with the registered model."""

import dataclasses
from collections.abc import Mapping, Sequence
from pathlib import Path

import mlflow
from mlflow import MlflowClient

from ml.params import Tracking
from ml.registry import registry
from ml.tracking.store import log_metrics, tracked, transferring


@dataclasses.dataclass(frozen=True)
class Served:
    """The service that answered.

    Attributes:
        url: its URL, without anything secret.
        version: version of its model.
        sha256: SHA-256 of the model's file, in hexadecimal.
    """

    url: str
    version: str
    sha256: str


def log(params: Tracking, served: Served, metrics: Mapping[str, float], files: Sequence[Path]) -> str:
    """Log a batch as a run, and link it with the registered version that answered, if there is one.

    The metrics get the prefix `live_`. The tags `live_run_id` and `live_accuracy` of the version describe the
    newest batch.

    Returns:
        The id of the run.

    Raises:
        PipelineError: MLflow cannot be used.
    """
    with tracked(params) as run_id:
        mlflow.set_tag("mlflow.runName", f"live {served.version}")
        tags = {"stage": "live", "url": served.url, "model_version": served.version, "sha256": served.sha256}
        mlflow.set_tags(tags)
        log_metrics(metrics, "live_")
        for file in files:
            with transferring():
                mlflow.log_artifact(str(file), "live")
        registered = registry.find(served.version, served.sha256)
        if registered is not None:
            mlflow.set_tag("registered_version", f"{registered.name}/{registered.version}")
            mlflow.set_tag("training_run_id", registered.run_id or "")
            client = MlflowClient()
            version_tags = {"live_run_id": run_id, "live_accuracy": f"{metrics['accuracy']:.6f}"}
            for name, value in version_tags.items():
                client.set_model_version_tag(registered.name, registered.version, name, value)
    return run_id
