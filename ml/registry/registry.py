"""MLflow's model registry: each `model.pt` is a version; the alias `champion` marks the best one."""

import dataclasses
import tempfile
from pathlib import Path

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from ml.evaluation.packaged_model import IncomparableError
from ml.model import bundle
from ml.model.errors import BundleError
from ml.tracking.store import one_line

CHAMPION = "champion"
_NO_SUCH_ALIAS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")


def register(name: str, model: Path, run_id: str, tags: dict[str, str]) -> ModelVersion:
    """Log `model.pt` to the active run and make it a version of the registered model.

    Its tags must include `sha256` and `model_version`, by which `find` finds it.
    """
    client = MlflowClient()
    mlflow.log_artifact(str(model), "model")
    try:
        client.create_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
    source = f"{client.get_run(run_id).info.artifact_uri}/model"
    return client.create_model_version(name, source, run_id, tags=tags)


def find_file(name: str, sha256: str) -> ModelVersion | None:
    """Return the newest version that is the file with this SHA-256 (hexadecimal), or None."""
    return _newest_tagged(name, "sha256", sha256)


def find(name: str, version: str, sha256: str) -> ModelVersion | None:
    """Return the version that is the same file, else the newest one with the same weights, or None.

    The version in `model.pt` identifies the weights.
    """
    return find_file(name, sha256) or _newest_tagged(name, "model_version", version)


def _newest_tagged(name: str, tag: str, value: str) -> ModelVersion | None:
    versions = MlflowClient().search_model_versions(f"name='{name}'")
    tagged = [version for version in versions if version.tags.get(tag) == value]
    return max(tagged, key=lambda version: int(version.version), default=None)


@dataclasses.dataclass(frozen=True)
class Champion:
    """The version that has the alias: its number, and the address of its files."""

    number: str
    source: str

    def read(self) -> bundle.Bundle:
        """Download and read its `model.pt`.

        Raises:
            IncomparableError: the file cannot be downloaded or read.
        """
        with tempfile.TemporaryDirectory() as folder:
            try:
                path = mlflow.artifacts.download_artifacts(f"{self.source}/model.pt", dst_path=folder)
                return bundle.read(Path(path))
            except (OSError, MlflowException, BundleError) as error:
                raise IncomparableError(one_line(error)) from error


def champion(name: str) -> Champion | None:
    """Return the version that has the alias, or None.

    Raises:
        MlflowException: the store cannot be read, so that it is unknown whether there is a champion.
    """
    try:
        version = MlflowClient().get_model_version_by_alias(name, CHAMPION)
    except MlflowException as error:
        if error.error_code not in _NO_SUCH_ALIAS:
            raise
        return None
    return Champion(str(version.version), version.source or "")


def promote(name: str, number: str) -> None:
    """Give a version the alias."""
    MlflowClient().set_registered_model_alias(name, CHAMPION, number)
