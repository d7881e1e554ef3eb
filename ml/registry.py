"""MLflow's model registry: the packaged model as a version, and the alias `champion` for the best."""

import tempfile
from pathlib import Path

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from ml import bundle
from ml.dataset import Dataset
from ml.fetch import sha256_of
from ml.twin import answers

CHAMPION = "champion"
_NO_SUCH_ALIAS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")


def register(name: str, model: Path, run_id: str, version: str, test_digest: str) -> str:
    """Log `model.pt` with the run and make it a version of the registered model; return its number."""
    client = MlflowClient()
    mlflow.log_artifact(str(model), "model")
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    tags = {"model_version": version, "sha256": sha256_of(model), "test_digest": test_digest}
    made = client.create_model_version(name, source, run_id, tags=tags)
    return str(made.version)


def find(name: str, version: str, sha256: str) -> ModelVersion | None:
    """Return the registered version that is the same file, else the newest one with the same weights.

    Args:
        name: of the registered model.
        version: that `model.pt` states.
        sha256: of `model.pt`, in hexadecimal.
    """
    made = MlflowClient().search_model_versions(f"name='{name}'")
    newest_first = sorted(made, key=lambda one: int(one.version), reverse=True)
    for tag, value in (("sha256", sha256), ("model_version", version)):
        for one in newest_first:
            if one.tags.get(tag) == value:
                return one
    return None


def promote(name: str, version: str, log_loss: float, data: Dataset) -> bool:
    """Give a version the alias `champion` if its log loss on the test split is below the holder's.

    The holder answers the same photos anew, since its own figures may be of others.

    Returns:
        Whether the version is champion now.
    """
    client = MlflowClient()
    try:
        holder = client.get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code not in _NO_SUCH_ALIAS:
            raise  # a store that can't be asked may hold a better one
        holder = None
    if holder is not None:
        held = _log_loss(holder.source or "", data)
        client.set_model_version_tag(name, version, "champion_log_loss", f"{held:.6f}")
        if log_loss >= held:
            return False
    client.set_registered_model_alias(name, CHAMPION, version)
    return True


def _log_loss(source: str, data: Dataset) -> float:
    """Log loss of a registered `model.pt` on the test split; infinite if it can't answer these classes."""
    with tempfile.TemporaryDirectory() as folder:
        try:
            held = bundle.read(
                Path(mlflow.artifacts.download_artifacts(f"{source}/model.pt", dst_path=folder))
            )
        except (OSError, MlflowException, bundle.BundleError):
            return float("inf")
    if held.manifest.classes != data.classes or held.manifest.image_size != data.image_size:
        return float("inf")
    rows = data.rows("test")
    given = answers(held.onnx, data, rows)[np.arange(len(rows)), data.labels[rows]]
    return float(-np.log(np.clip(given, 1e-15, 1)).mean())
