"""MODEL_URL to a verified local `model.pt`."""

import hashlib
import tempfile
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from app.settings import EMBEDDED, Settings

if TYPE_CHECKING:
    import requests

MAX_MODEL_BYTES = 2 << 30
"""A download that goes on past this is given up, so that it can't fill the disk."""

_ATTEMPTS = 3
_PAUSE_S = 0.5  # before the second attempt; doubled before each further one
_TIMEOUT_S = (10.0, 30.0)  # to connect; between two pieces of the answer
_CHUNK_BYTES = 1 << 20


class ModelSourceError(RuntimeError):
    """No model file to be had; the message is one line and holds no secret."""


class _TransientError(ModelSourceError):
    """A failure that another attempt may mend."""


@dataclass(frozen=True)
class ModelFile:
    """A local model file.

    Attributes:
        path: where it lies.
        download_seconds: how long its download took, or None where there was none.
    """

    path: Path
    download_seconds: float | None = None


def fetch(settings: Settings) -> ModelFile:
    """Return the model file that the settings name, downloaded where they name a server.

    Raises:
        ModelSourceError: it can't be had, or isn't the one that MODEL_SHA256 pins.
    """
    if settings.model_url is None:
        return ModelFile(_checked(EMBEDDED, settings.model_sha256))
    parts = urlsplit(settings.model_url)
    if parts.scheme == "file":
        return ModelFile(_checked(Path(url2pathname(parts.path)), settings.model_sha256))
    started = time.perf_counter()
    path = _download(settings.model_url, settings)
    return ModelFile(path, time.perf_counter() - started)


def redact(url: str) -> str:
    """Return the URL without what may be secret: user info, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _checked(path: Path, sha256: str | None) -> Path:
    try:
        with path.open("rb") as file:
            if sha256 is not None:
                _compare(hashlib.file_digest(file, "sha256").hexdigest(), sha256, str(path))
    except OSError as error:
        raise ModelSourceError(f"can't read the model file {path}: {error.strerror}") from error
    return path


def _compare(found: str, pinned: str | None, name: str) -> None:
    if pinned is not None and found != pinned:
        raise ModelSourceError(f"{name} has SHA-256 {found}, but MODEL_SHA256 pins {pinned}")


def _download(url: str, settings: Settings) -> Path:
    import requests  # only here: a service with a local model starts without it

    target = settings.model_cache_dir / f"{hashlib.sha256(url.encode()).hexdigest()[:16]}.pt"
    try:
        settings.model_cache_dir.mkdir(parents=True, exist_ok=True)
        with requests.Session() as session:
            if settings.model_token is not None:
                session.auth = _bearer(settings.model_token)
            for attempt in range(1, _ATTEMPTS):
                try:
                    return _attempt(session, url, target, settings.model_sha256)
                except _TransientError:
                    time.sleep(_PAUSE_S * 2 ** (attempt - 1))
            return _attempt(session, url, target, settings.model_sha256)
    except requests.RequestException as error:  # its text may hold the URL with its secrets
        raise ModelSourceError(f"can't download {redact(url)}: {type(error).__name__}") from None
    except OSError as error:
        where = f"{settings.model_cache_dir} (MODEL_CACHE_DIR)"
        raise ModelSourceError(f"can't write the model to {where}: {error.strerror}") from error


class _bearer:  # noqa: N801  (used like a function)
    """Authorization for the first host; requests drops the header on a redirect to another.

    Given as `auth`, and not as a header, so that an entry in ~/.netrc doesn't replace it.
    """

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: "requests.PreparedRequest") -> "requests.PreparedRequest":
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _attempt(session: "requests.Session", url: str, target: Path, sha256: str | None) -> Path:
    import requests

    # GitHub's API answers with the asset itself only to this Accept.
    headers = {"Accept": "application/octet-stream", "Accept-Encoding": "identity"}
    failed = f"can't download {redact(url)}"
    try:
        response = session.get(url, headers=headers, stream=True, timeout=_TIMEOUT_S)
    except requests.Timeout:
        raise _TransientError(f"{failed}: no answer in time") from None
    except requests.ConnectionError as error:
        raise _TransientError(f"{failed}: no connection ({type(error).__name__})") from None
    with response:
        status = response.status_code
        if status != 200:
            kind = _TransientError if status == 429 or status >= 500 else ModelSourceError
            raise kind(f"{failed}: the server answered {status}")
        try:
            return _store(response, target, sha256, redact(url))
        except (requests.ConnectionError, requests.exceptions.ChunkedEncodingError):
            raise _TransientError(f"{failed}: the connection broke or stalled") from None


def _store(response: "requests.Response", target: Path, sha256: str | None, name: str) -> Path:
    """Write beside the target, verify, then rename: no one ever sees half a file."""
    digest = hashlib.sha256()
    size = 0
    with tempfile.NamedTemporaryFile(dir=target.parent, prefix=f".{target.name}.", delete=False) as file:
        part = Path(file.name)
        try:
            for chunk in response.iter_content(_CHUNK_BYTES):
                size += len(chunk)
                if size > MAX_MODEL_BYTES:
                    raise ModelSourceError(f"{name} is larger than {MAX_MODEL_BYTES:,} bytes")
                digest.update(chunk)
                file.write(chunk)
            file.flush()
            _compare(digest.hexdigest(), sha256, name)
            return part.replace(target)
        except BaseException:
            part.unlink(missing_ok=True)
            raise
