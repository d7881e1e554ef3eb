"""What the deployed service says about itself. It is asked without any provider's token."""

from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import requests

from ml.model.http import session


@dataclass(frozen=True)
class Model:
    """The model that a service answers with.

    Attributes:
        version: of the model.
        sha256: of its file, in hexadecimal.
    """

    version: str
    sha256: str


def model_of(url: str, seconds: float = 10) -> Model | None:
    """Return the model that answers at a URL, or None if the service does not say."""
    try:
        answer = _get(url, "/model", seconds).json()
        return Model(str(answer["version"]), str(answer["sha256"]))
    except (requests.RequestException, ValueError, KeyError, TypeError):
        return None


def is_ready(url: str) -> bool:
    """Return whether the service has loaded its model and accepts requests."""
    try:
        _get(url, "/ready", 5)
    except requests.RequestException:
        return False
    return True


def _get(url: str, path: str, seconds: float) -> Any:
    with session(attempts=1, timeout_s=(seconds, seconds)) as client:
        client.trust_env = urlsplit(url).hostname not in ("127.0.0.1", "::1", "localhost")  # no proxy
        response = client.get(url.rstrip("/") + path)
        response.raise_for_status()
        return response
