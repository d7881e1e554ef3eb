"""What the service that was deployed says of itself. Asked without the providers' keys."""

import http.client
import json
import urllib.request
from dataclasses import dataclass
from urllib.parse import urlsplit

_LARGEST = 1 << 20  # bytes of an answer
_ERRORS = (OSError, ValueError, http.client.HTTPException)


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
    """Return which model answers at a URL; None where that can't be told."""
    try:
        told = json.loads(_get(f"{url.rstrip('/')}/model", seconds))
        return Model(str(told["version"]), str(told["sha256"]))
    except (*_ERRORS, KeyError, TypeError):
        return None


def is_ready(url: str) -> bool:
    """Whether the service has its model and takes requests."""
    try:
        _get(f"{url.rstrip('/')}/ready", 5)
    except _ERRORS:
        return False
    return True


def _get(url: str, seconds: float) -> bytes:
    local = urlsplit(url).hostname in ("127.0.0.1", "::1", "localhost")
    proxies = urllib.request.ProxyHandler({} if local else None)
    with urllib.request.build_opener(proxies).open(url, timeout=seconds) as answer:
        body: bytes = answer.read(_LARGEST)
        return body
