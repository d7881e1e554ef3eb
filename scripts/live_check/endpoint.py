"""Requests to the live service, from many threads; transient failures are retried for a limited time."""

import json
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import requests

from ml.api_session import session
from ml.model.examples import MAX_EXAMPLES
from scripts.common.web import RequestError, checked_url, key_header, printable

_BACKOFF_S, _BACKOFF_MAX_S = 0.5, 20.0
_MAX_BYTES, _MAX_BODY_S = 64 << 20, 60
_TRANSIENT = frozenset({408, 425, 429, *range(502, 600)})
"""Statuses after which another attempt may succeed. After 500, the same request would fail again."""


@dataclass(frozen=True)
class Answer:
    """The result of a request."""

    status: int  # of the last attempt; 0: there was no response
    seconds: float  # duration of the last attempt
    attempts: int  # how often the request was sent
    content: Mapping[str, Any] = field(default_factory=dict)  # the JSON object of the response, if any
    error: str = ""  # why the status is not 2xx; one line
    body: bytes = b""  # of the response


class _Current(threading.local):
    """The session of a thread, which the function makes, and the thread's current request."""

    def __init__(self, make_session: Callable[[], requests.Session]) -> None:
        self.session = make_session()
        self.deadline = self.attempt_started = 0.0
        self.attempts = 0


class Endpoint:
    """The service at a URL. If API_KEY is set, it is sent as X-API-Key.

    Args:
        url: http(s) URL of the service's root.
        patience_s: how long a request is retried, and how long the service may be silent, in seconds.

    Raises:
        RequestError: the URL is not valid, or the key cannot be sent.
    """

    def __init__(self, url: str, patience_s: float) -> None:
        self.url = checked_url(url)
        """Without anything secret."""
        self._patience_s = patience_s
        self._current = _Current(self._session)
        self._stopped = threading.Event()
        self._answered_at = time.monotonic()

    def stop(self) -> None:
        """Send no further requests, and retry none."""
        self._stopped.set()

    def model(self) -> dict[str, Any]:
        """Return the service's description of its model.

        Raises:
            RequestError: there is none, or it is not one.
        """
        answer = self._send("GET", "/model")
        if answer.status != 200:
            raise RequestError(f"{self.url}/model: {answer.error}")
        model = dict(answer.content)
        classes = model.get("classes")
        texts = [model.get("version"), model.get("sha256")]
        texts += classes if isinstance(classes, list) else [None]
        if not all(isinstance(text, str) and text for text in texts):
            raise RequestError(f"{self.url}/model does not describe a model; is this the URL of the service?")
        return model

    def examples(self) -> list[tuple[str, bytes]]:
        """Return label and file of each example photo that the service offers; raises as `model`."""
        listed = self._send("GET", "/model/examples")
        if listed.status == 404:  # a service of an earlier version
            return []
        if listed.status != 200:
            raise RequestError(f"{self.url}/model/examples: {listed.error}")
        entries = listed.content.get("examples")
        photos = []
        for entry in entries[:MAX_EXAMPLES] if isinstance(entries, list) else [{}]:
            label, path = (entry.get(name) if isinstance(entry, dict) else None for name in ("label", "path"))
            if not isinstance(label, str) or not isinstance(path, str) or not path.startswith("/"):
                raise RequestError(f"{self.url}/model/examples does not list photos with label and path")
            photo = self._send("GET", path)
            if photo.status != 200:
                raise RequestError(f"an example photo of {printable(label)}: {photo.error}")
            photos.append((label, photo.body))
        return photos

    def predict(self, photo: bytes) -> Answer:
        """Send a photo; raises as `model`."""
        # It goes by the content, whatever the type. Photos that judge a model must not train the next one.
        return self._send("POST", "/predict?keep=0", photo, "image/jpeg")

    def judge(self, predicted: str, actual: str, request_id: str) -> Answer:
        """Send the true label of an answer as feedback; raises as `model`."""
        feedback = {"predicted": predicted, "actual": actual, "request_id": request_id}
        return self._send("POST", "/feedback", json.dumps(feedback).encode())

    def _send(
        self, method: str, path: str, body: bytes | None = None, media_type: str = "application/json"
    ) -> Answer:
        """Send a request, again after transient failures, and return the result of the last attempt.

        Raises:
            RequestError: it is rejected (401, 403) or redirected, or the certificate is not trusted.
        """
        current = self._current
        current.deadline, current.attempts = time.monotonic() + self._patience_s, 1
        if self._gives_up():
            return Answer(0, 0.0, 0, error="not sent: the service no longer answers")
        current.attempt_started = time.perf_counter()
        headers = {} if body is None else {"Content-Type": media_type}
        try:
            with current.session.request(
                method, self.url + path, data=body, headers=headers, allow_redirects=False, stream=True
            ) as response:
                text = _read(response)
        except requests.exceptions.SSLError:
            raise RequestError(f"{self.url}: its TLS certificate is not trusted, or TLS failed") from None
        except requests.exceptions.InvalidURL:
            raise RequestError("the host of the URL is not valid") from None
        except requests.RequestException as error:  # its text may hold more than the URL
            seconds = time.perf_counter() - current.attempt_started
            return Answer(0, seconds, current.attempts, error=f"no answer ({type(error).__name__})")
        seconds, status = time.perf_counter() - current.attempt_started, response.status_code
        if status in (401, 403):
            raise RequestError(
                f"{self.url}{path} answered {status}; check that API_KEY is set to a valid key"
            )
        if 300 <= status < 400:  # not followed: a POST would become a GET
            raise RequestError(f"{self.url}{path} redirects; use the URL that it redirects to")
        if status not in _TRANSIENT:
            self._answered_at = time.monotonic()
        content = _object(text)
        problem = "" if status < 300 else printable(f"status {status} {content.get('detail', '')}")
        return Answer(status, seconds, current.attempts, content, problem, text)

    def _session(self) -> requests.Session:
        return session(
            headers=key_header(),
            attempts=1_000_000,  # the patience ends first
            backoff_s=_BACKOFF_S,
            backoff_max_s=_BACKOFF_MAX_S,
            retry_after_max_s=self._patience_s,
            methods=("GET", "POST"),
            transient=_TRANSIENT,
            wait=self._wait,
            give_up=self._gives_up,
        )

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
