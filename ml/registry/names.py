"""The names of the registered models: each set of classes has one of its own.

So a champion is compared only with models of its classes, and never replaced by one of other classes.
"""

import re
from collections.abc import Collection

from mlflow import MlflowClient
from mlflow.exceptions import MlflowException

from ml.evaluation.packaged_model import IncomparableError
from ml.params import AUTO
from ml.registry.registry import CLASSES, UnreadableError, champion, classes_digest, newest

_FORMER_NAME = "cats-vs-dogs"  # the default before `auto`
_MAX_NAME = 60


def name_for(configured: str, classes: Collection[str]) -> str:
    """Return the name of the registered model of these classes.

    It is `tracking.model` of params.yaml; for `auto`, it is made from the names of the classes. If the
    registered model of that name has other classes, a checksum of the classes is added to the name.
    """
    digest = classes_digest(classes)
    if configured != AUTO:
        name = configured
    else:
        name = _FORMER_NAME if _owner(_FORMER_NAME) == digest else _readable(classes, digest)
    return name if _owner(name) in ("", digest) else f"{name}-{digest[:8]}"


def _readable(classes: Collection[str], digest: str) -> str:
    """Return a name that is valid in MLflow and its URIs; if it is shortened, a checksum makes it unique."""
    joined = "-".join(sorted(classes))
    if len(joined) <= _MAX_NAME and all(re.fullmatch("[A-Za-z0-9_]+", name) for name in classes):
        return joined
    plain = re.sub("[^A-Za-z0-9_]+", "-", joined).strip("-")[: _MAX_NAME - 9].strip("-")
    return f"{plain or 'classes'}-{digest[:8]}"


def _owner(name: str) -> str:
    """Return the digest of the classes of a registered model; empty: no such model, or unknown classes."""
    try:
        registered = MlflowClient().get_registered_model(name)
    except MlflowException as error:
        if error.error_code != "RESOURCE_DOES_NOT_EXIST":
            raise
        return ""
    if owner := registered.tags.get(CLASSES):
        return str(owner)
    # An earlier version of this project registered it without the tag: look into the model.
    holder = champion(name)
    try:
        version = holder or newest(name)
        return classes_digest(version.read().manifest.classes) if version else ""
    except IncomparableError:
        return ""
    except UnreadableError:
        if holder:  # which the new model could not be compared with
            raise
        return ""
