"""MLflow's model registry: each `model.pt` is a version; the alias `champion` marks the best one.

Each set of classes has a registered model of its own, see `ml.registry.names`.
"""

import dataclasses
import hashlib
import json
import tempfile
from collections.abc import Iterable
from pathlib import Path, PurePosixPath

import mlflow
from mlflow import MlflowClient
from mlflow.entities.model_registry import ModelVersion
from mlflow.exceptions import MlflowException

from ml.evaluation.packaged_model import IncomparableError
from ml.model import bundle
from ml.model.errors import BundleError, one_line
from ml.model.partial import sha256_of
from ml.paths import MODEL
from ml.registry import mlflow_model
from ml.tracking.store import StoreError, log_folder, transferring

CHAMPION = "champion"
_NO_SUCH_ALIAS = ("INVALID_PARAMETER_VALUE", "RESOURCE_DOES_NOT_EXIST")
_PROMOTED = "promoted"
CLASSES = "classes_sha256"
"""Tag of a registered model that identifies its classes, see `classes_digest`."""


class UnreadableError(StoreError):
    """A registered version without the file that was registered; the message says what to do."""


def classes_digest(classes: Iterable[str]) -> str:
    """Return the SHA-256 of a set of classes, in hexadecimal."""
    return hashlib.sha256(json.dumps(sorted(classes)).encode()).hexdigest()


def register(
    name: str, model: Path, classes: Iterable[str], run_id: str, tags: dict[str, str]
) -> ModelVersion:
    """Log `model.pt` as an MLflow model to the active run, and make it a version of the registered model.

    Its tags must include `sha256` and `model_version`, by which `find` finds it.
    """
    client = MlflowClient()
    place = f"model-{tags['sha256'][:12]}"  # a training may be packaged, and registered, several times
    with tempfile.TemporaryDirectory() as folder:
        mlflow_model.write(model, Path(folder, place))
        log_folder(Path(folder, place), place)
    digest = classes_digest(classes)
    try:
        client.create_registered_model(name, tags={CLASSES: digest})
    except MlflowException as error:
        if error.error_code != "RESOURCE_ALREADY_EXISTS":
            raise
        if client.get_registered_model(name).tags.get(CLASSES, digest) != digest:
            again = "run the command again, which finds another name"
            raise StoreError(f"somebody has registered other classes as {name} meanwhile: {again}") from None
        client.set_registered_model_tag(name, CLASSES, digest)
    source = f"{client.get_run(run_id).info.artifact_uri}/{place}"
    return client.create_model_version(name, source, run_id, tags=tags)


def find_file(name: str, sha256: str) -> ModelVersion | None:
    """Return the newest version that is the file with this SHA-256 (hexadecimal), or None."""
    return _newest_tagged("sha256", sha256, f"name='{name}'")


def find(version: str, sha256: str) -> ModelVersion | None:
    """Return the version that is the same file, else the newest one with the same weights, or None.

    The version in `model.pt` identifies the weights. All registered models are searched.
    """
    return _newest_tagged("sha256", sha256) or _newest_tagged("model_version", version)


def _newest_tagged(tag: str, value: str, *conditions: str) -> ModelVersion | None:
    if "'" in value:  # not one of ours; it would end the text in the query
        return None
    query = " and ".join([f"tags.{tag} = '{value}'", *conditions])
    return _newest(MlflowClient().search_model_versions(query))


def _newest(versions: Iterable[ModelVersion]) -> ModelVersion | None:
    return max(versions, key=lambda one: (one.creation_timestamp, int(one.version)), default=None)


@dataclasses.dataclass(frozen=True)
class RegisteredVersion:
    """A registered version.

    Attributes:
        name: name of the registered model.
        number: number of the version.
        source: address of its files.
        sha256: SHA-256 of its `model.pt`, in hexadecimal; empty if it was registered by something else.
    """

    name: str
    number: str
    source: str
    sha256: str

    def read(self) -> bundle.Bundle:
        """Download and read its `model.pt`.

        Raises:
            UnreadableError: the store does not have the file that was registered.
            IncomparableError: it has the file, but this version of the project cannot read it.
            StoreError, MlflowException: the store cannot be used, so nothing is known about the file.
        """
        with tempfile.TemporaryDirectory() as folder:
            with transferring():
                path = self._download(folder)
                same = sha256_of(path) == self.sha256
            if self.sha256 and not same:
                raise self._unreadable(
                    f"the {MODEL.name} at {self.source} is not the one that was registered"
                )
            try:
                return bundle.read(path)
            except BundleError as error:
                reason = one_line(str(error), 200)
                raise (IncomparableError(reason) if same else self._unreadable(reason)) from error

    def _unreadable(self, reason: str) -> UnreadableError:
        return UnreadableError(
            f"{self.name} version {self.number} cannot be compared: {reason}. Restore the file; or, in "
            f"MLflow, move the alias `{CHAMPION}` to another version or remove it; or, if the model is "
            "another project's, choose another name with `python -m ml params tracking.model=NAME`"
        )

    def _download(self, folder: str) -> Path:
        # An earlier version of this project registered the bare file.
        for place in (f"{self.source}/{mlflow_model.DATA}", self.source):
            try:
                files = mlflow.artifacts.list_artifacts(artifact_uri=place)
            except MlflowException as error:
                if error.error_code != "RESOURCE_DOES_NOT_EXIST":
                    raise
                continue
            if any(PurePosixPath(file.path).name == MODEL.name for file in files):
                file = f"{place}/{MODEL.name}"
                return Path(mlflow.artifacts.download_artifacts(file, dst_path=folder))
        raise self._unreadable(f"the store has no {MODEL.name} at {self.source}")


def champion(name: str) -> RegisteredVersion | None:
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
    return _registered(version)


def newest(name: str) -> RegisteredVersion | None:
    """Return the newest version of a registered model, or None."""
    version = _newest(MlflowClient().search_model_versions(f"name='{name}'"))
    return None if version is None else _registered(version)


def _registered(version: ModelVersion) -> RegisteredVersion:
    sha256 = version.tags.get("sha256", "")
    return RegisteredVersion(version.name, str(version.version), version.source or "", sha256)


def promote(name: str, number: str) -> None:
    """Give a version the alias, and a tag that remembers it."""
    client = MlflowClient()
    client.set_registered_model_alias(name, CHAMPION, number)
    client.set_model_version_tag(name, number, _PROMOTED, "true")


def was_promoted(version: ModelVersion) -> bool:
    """Return whether `promote` has once given a version the alias."""
    return _PROMOTED in version.tags
