"""MLflow's model registry: the packaged model as a version, and the alias `champion` for the best."""

import dataclasses
import tempfile
from pathlib import Path

import mlflow
import numpy as np
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from ml import bundle
from ml.dataset import Dataset
from ml.errors import BundleError, PipelineError
from ml.fetch import sha256_of
from ml.metrics import Floats
from ml.twin import Twin

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


class IncomparableError(PipelineError):
    """A registered model that can't answer these photos; the message says why."""


@dataclasses.dataclass(frozen=True)
class Champion:
    """The version that has the alias.

    Attributes:
        number: of the version.
        source: where its files are.
    """

    number: str
    source: str

    def answers(self, data: Dataset) -> tuple[Twin, dict[str, Floats]]:
        """Have its twin answer the test photos anew, since its own figures may be of others.

        Returns:
            the twin, and its outputs by name, see `ml.twin`.

        Raises:
            IncomparableError: it is of other classes, wants other photos, or can't be had or run.
        """
        with tempfile.TemporaryDirectory() as folder:
            try:
                file = mlflow.artifacts.download_artifacts(f"{self.source}/model.pt", dst_path=folder)
                held = bundle.read(Path(file))
            except (OSError, MlflowException, BundleError) as error:
                raise IncomparableError(_line(error)) from error
        told = held.manifest
        if told.classes != data.classes:
            raise IncomparableError("it tells other classes")
        if (told.image_size, told.resize) != (data.image_size, data.resize):
            raise IncomparableError(f"it takes photos of {told.image_size} pixels ({told.resize})")
        try:
            twin = Twin(held.onnx)
            found = twin.ask(data, data.rows("test"))
        except Exception as error:
            raise IncomparableError(f"its twin doesn't run: {_line(error)}") from error
        if not np.isfinite(found["probabilities"]).all():
            raise IncomparableError("its twin doesn't answer with probabilities")
        return twin, found


def champion(name: str) -> Champion | None:
    """Return the version that has the alias, or None.

    Raises:
        MlflowException: the store can't be asked; it may hold one.
    """
    try:
        holder = MlflowClient().get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code not in _NO_SUCH_ALIAS:
            raise
        return None
    return Champion(str(holder.version), holder.source or "")


def promote(name: str, version: str) -> None:
    """Give a version the alias."""
    MlflowClient().set_registered_model_alias(name, CHAMPION, version)


def _line(error: Exception) -> str:
    return f"{' '.join(str(error).split()):.200}"
