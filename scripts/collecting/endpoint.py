"""Requests to the live service, from many threads; transient failures are retried for a limited time."""

import json
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests

from ml.model.http import session

_BACKOFF_S, _BACKOFF_MAX_S = 0.5, 20.0
_MAX_BYTES, _MAX_BODY_S = 64 << 20, 60
_TRANSIENT = frozenset({408, 425, 429, *range(502, 600)})
"""Statuses after which another attempt may succeed. After 500, the same request would fail again."""


class ServiceError(Exception):
    """The batch cannot go on; the message is one line for the user and holds no secret."""


@dataclass(frozen=True)
class Answer:
    """The result of a request.

    Attributes:
        status: of the last attempt; 0: there was no response.
        seconds: duration of the last attempt.
        attempts: how often the request was sent.
        content: the JSON object of the response; empty: there was none.
        error: why the status is not 2xx; one line.
    """

    status: int
    seconds: float
    attempts: int
    content: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


class _Current(threading.local):
    """The session of a thread, and its current request."""

    session: requests.Session | None = None
    deadline = 0.0
    attempts = 0
    attempt_started = 0.0


class Endpoint:
    """The service at a URL.

    Args:
        url: http(s) URL of the service's root.
        key: API key, sent as X-API-Key; None: none is sent.
        patience_s: how long a request is retried, and how long the service may be silent, in seconds.

    Raises:
        ServiceError: the URL is not valid, or the key cannot be sent.
    """

    def __init__(self, url: str, key: str | None, patience_s: float) -> None:
        try:
            parts = urlsplit(url)
            valid = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            valid = False
        if not valid or "@" in parts.netloc:
            raise ServiceError("the URL must be http://… or https://…, without user and password")
        if key and not (key.isascii() and key.isprintable()):
            raise ServiceError("API_KEY cannot be sent in a header")
        self.url = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
        """Without anything secret."""
        self._headers = {"X-API-Key": key} if key else {}
        self._patience_s = patience_s
        self._current = _Current()
        self._stopped = threading.Event()
        self._answered_at = time.monotonic()

    def stop(self) -> None:
        """Send no further requests, and retry none."""
        self._stopped.set()

    def model(self) -> dict[str, Any]:
        """Return the service's description of its model.

        Raises:
            ServiceError: there is none, or it is not one.
        """
        answer = self._send("GET", "/model")
        if answer.status != 200:
            raise ServiceError(f"{self.url}/model: {answer.error}")
        model = dict(answer.content)
        classes = model.get("classes")
        texts = [
            model.get("version"),
            model.get("sha256"),
            *(classes if isinstance(classes, list) else [None]),
        ]
        if not all(isinstance(text, str) and text for text in texts):
            raise ServiceError(f"{self.url}/model does not describe a model; is this the URL of the service?")
        return model

    def predict(self, photo: bytes) -> Answer:
        """Send a photo; raises as `model`."""
        return self._send("POST", "/predict", photo, "image/jpeg")  # the service goes by the content

    def judge(self, predicted: str, actual: str, request_id: str) -> Answer:
        """Send the true label of an answer as feedback; raises as `model`."""
        feedback = {"predicted": predicted, "actual": actual, "request_id": request_id}
        return self._send("POST", "/feedback", json.dumps(feedback).encode(), "application/json")

    def _send(self, method: str, path: str, body: bytes | None = None, media_type: str = "") -> Answer:
        """Send a request, again after transient failures, and return the result of the last attempt.

        Raises:
            ServiceError: it is rejected (401, 403) or redirected, or the certificate is not trusted.
        """
        current = self._current
        current.deadline, current.attempts = time.monotonic() + self._patience_s, 1
        if self._gives_up():
            return Answer(0, 0.0, 0, error="not sent: the service no longer answers")
        current.attempt_started = time.perf_counter()
        headers = {"Content-Type": media_type} if media_type else {}
        try:
            with self._session().request(
                method, self.url + path, data=body, headers=headers, allow_redirects=False, stream=True
            ) as response:
                text = _read(response)
        except requests.exceptions.SSLError:
            raise ServiceError(f"{self.url}: its TLS certificate is not trusted, or TLS failed") from None
        except requests.exceptions.InvalidURL:
            raise ServiceError("the host of the URL is not valid") from None
        except requests.RequestException as error:  # its text may hold more than the URL
            seconds, reason = (
                time.perf_counter() - current.attempt_started,
                f"no answer ({type(error).__name__})",
            )
            return Answer(0, seconds, current.attempts, error=reason)
        seconds, status = time.perf_counter() - current.attempt_started, response.status_code
        if status in (401, 403):
            raise ServiceError(
                f"{self.url}{path} answered {status}; check that API_KEY is set to a valid key"
            )
        if 300 <= status < 400:  # not followed: a POST would become a GET
            raise ServiceError(f"{self.url}{path} redirects; use the URL that it redirects to")
        if status not in _TRANSIENT:
            self._answered_at = time.monotonic()
        content = _object(text)
        problem = "" if status < 300 else one_line(f"status {status} {content.get('detail', '')}")
        return Answer(status, seconds, current.attempts, content, problem)

    def _session(self) -> requests.Session:
        if self._current.session is None:
            self._current.session = session(
                headers=self._headers,
                attempts=1_000_000,  # the patience ends first
                backoff_s=_BACKOFF_S,
                backoff_max_s=_BACKOFF_MAX_S,
                retry_after_max_s=self._patience_s,
                methods=("GET", "POST"),
                transient=_TRANSIENT,
                wait=self._wait,
                give_up=self._gives_up,
            )
        return self._current.session

    def _gives_up(self) -> bool:
        return self._stopped.is_set() or time.monotonic() >= self._end()

    def _end(self) -> float:
        return min(self._current.deadline, self._answered_at + self._patience_s)

    def _wait(self, seconds: float) -> None:
        self._stopped.wait(max(0.0, min(seconds, self._end() - time.monotonic())))
        self._current.attempts += 1
        self._current.attempt_started = time.perf_counter()


def _read(response: requests.Response) -> bytes:
    """Return the body, cut off if it is larger than any sensible answer or takes longer."""
    body, until = bytearray(), time.monotonic() + _MAX_BODY_S
    for piece in response.iter_content(1 << 16):
        body += piece
        if len(body) > _MAX_BYTES or time.monotonic() > until:
            break
    return bytes(body)


def _object(text: bytes) -> Mapping[str, Any]:
    try:
        content = json.loads(text)
    except (ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def one_line(text: str) -> str:
    """Return a text from elsewhere as one line that is fit for a table."""
    return "".join(letter if letter.isprintable() else "?" for letter in text).strip()[:200]
