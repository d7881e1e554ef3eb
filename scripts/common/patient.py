"""HTTP requests of many threads to one service, with patience: what fails for the moment is tried again."""

import itertools
import json
import random
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit, urlunsplit

import requests

from app.http_client import retry_after_s

_TIMEOUT_S = (10, 60)
"""To connect, and between two pieces of an answer."""
_PAUSE_S, _LONGEST_PAUSE_S = 0.5, 20.0
"""Before the second attempt, doubled for each further one; a server's Retry-After may ask for more."""
_MAX_BYTES, _MAX_BODY_S = 64 << 20, 60
_MOMENTARY = frozenset({408, 425, 429, *range(502, 600)})
"""Statuses that another attempt may mend. 500 isn't one: the same request would fail again."""


class ServiceError(Exception):
    """No use to go on; the message is one line for a person and holds no secret."""


@dataclass(frozen=True)
class Answer:
    """What came of a request.

    Attributes:
        status: of the last attempt; 0 where no answer came.
        seconds: the last attempt took.
        attempts: how many it took.
        content: the JSON object that came; empty where none did.
        error: why there is no 2xx; one line.
    """

    status: int
    seconds: float
    attempts: int
    content: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""


class Client:
    """Requests to one service.

    Args:
        url: http(s), of the service's root.
        headers: of each request.
        secret: name of the environment variable that authorizes, for a person whose request is refused.
        patience_s: how long a request is tried anew, and how long nothing at all may be answered.

    Raises:
        ServiceError: the URL is none, or a header can't be sent.
    """

    def __init__(self, url: str, headers: Mapping[str, str], secret: str, patience_s: float) -> None:
        try:
            parts = urlsplit(url)
            good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
        except ValueError:
            good = False
        if not good or "@" in parts.netloc:
            raise ServiceError("the URL must be http://… or https://…, without user and password")
        if not all(value.isascii() and value.isprintable() for value in headers.values()):
            raise ServiceError(f"{secret} can't be sent in a header")
        self.url = urlunsplit((parts.scheme, parts.netloc, parts.path.rstrip("/"), "", ""))
        self._headers, self._secret, self._patience_s = headers, secret, patience_s
        self._local = threading.local()
        self._stopped = threading.Event()
        self._answered_at = time.monotonic()

    def stop(self) -> None:
        """Let no request be tried again."""
        self._stopped.set()

    def ask(self, method: str, path: str, body: bytes | None = None, kind: str = "") -> Answer:
        """Send a request, again and again where that may help, and return what came of the last attempt.

        Raises:
            ServiceError: it is refused (401, 403), redirected, or the certificate is not trusted.
        """
        started = time.monotonic()
        for attempt in itertools.count(1):
            if time.monotonic() > self._answered_at + self._patience_s:
                return Answer(0, 0.0, attempt - 1, error="not sent: the service answers no longer")
            answer, wait_s = self._attempt(method, path, body, kind, attempt)
            if answer.status and answer.status not in _MOMENTARY:
                self._answered_at = time.monotonic()
                return answer
            pause = min(_PAUSE_S * 2 ** min(attempt - 1, 10), _LONGEST_PAUSE_S) * random.uniform(0.5, 1)  # noqa: S311
            pause = max(pause, wait_s)
            if time.monotonic() + pause > started + self._patience_s:
                return answer
            if self._stopped.wait(pause):
                return answer
        raise AssertionError

    def _attempt(
        self, method: str, path: str, body: bytes | None, kind: str, attempt: int
    ) -> tuple[Answer, float]:
        """Return an answer, and for how long the server wants to be left alone, in seconds."""
        started = time.perf_counter()
        try:
            with self._session().request(
                method,
                self.url + path,
                data=body,
                headers={"Content-Type": kind} if kind else {},
                allow_redirects=False,  # a POST would arrive as a GET
                stream=True,
                timeout=_TIMEOUT_S,
            ) as response:
                text = _read(response)
        except requests.exceptions.SSLError:
            raise ServiceError(f"{self.url}: no trust in its certificate") from None
        except requests.exceptions.InvalidURL:
            raise ServiceError("the URL's host can't be one") from None
        except requests.RequestException as broken:
            reason = f"no answer ({type(broken).__name__})"
            return Answer(0, time.perf_counter() - started, attempt, error=reason), 0.0
        seconds, status = time.perf_counter() - started, response.status_code
        if status in (401, 403):
            raise ServiceError(
                f"{self.url}{path} answered {status}: is {self._secret} set, and the right one?"
            )
        if 300 <= status < 400:
            raise ServiceError(f"{self.url}{path} redirects; use the URL that it redirects to")
        content = _object(text)
        error = "" if status < 300 else one_line(f"status {status} {content.get('detail', '')}")
        wait_s = retry_after_s(response.headers.get("Retry-After", ""))
        return Answer(status, seconds, attempt, content, error), wait_s

    def _session(self) -> requests.Session:
        session: requests.Session | None = getattr(self._local, "session", None)
        if session is None:
            session = self._local.session = requests.Session()
            session.auth = _no_other_auth
            session.headers.update(self._headers)
        return session


def _no_other_auth(request: requests.PreparedRequest) -> requests.PreparedRequest:
    """Keep requests from looking into ~/.netrc."""
    return request


def _read(response: requests.Response) -> bytes:
    """Return the body, cut where it is longer than any sensible answer, or takes longer."""
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
    """Return a text from outside, fit for a line of a table."""
    return "".join(letter if letter.isprintable() else "?" for letter in text).strip()[:200]
