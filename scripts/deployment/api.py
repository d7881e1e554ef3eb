"""JSON over HTTPS with a Bearer token: retried where that is safe, bounded, and silent about the token."""

import json
import random
import re
import time
from typing import Any
from urllib.parse import urlsplit

import requests
import urllib3

from deployment.answers import text
from deployment.cancellation import CANCELLATION
from deployment.output import hide, say
from deployment.target import DeployError

ATTEMPTS = 6
TIMEOUT_S = (10, 30)
"""Seconds to connect, and between two pieces of an answer."""
_LONGEST_PAUSE_S = 60.0
_LARGEST = 8 << 20  # bytes of an answer


class ApiError(DeployError):
    """The provider refuses, or can't be reached.

    Attributes:
        status: of its answer; 0 where there was none.
    """

    def __init__(self, reason: str, status: int = 0) -> None:
        super().__init__(reason)
        self.status = status


class UnclearError(ApiError):
    """A request that may have been carried out: its answer was lost, or is a server's error."""


class Api:
    """Requests to one provider."""

    def __init__(self, provider: str, base: str, token: str, token_name: str, pause_s: float = 1.0) -> None:
        """Check the address and the token; connect to nothing yet.

        Args:
            provider: its name, for messages.
            base: URL that every path is appended to.
            token: Bearer token.
            token_name: the environment variable that it comes from.
            pause_s: before the second attempt; each further pause is twice as long.

        Raises:
            DeployError: no token, or an address that it must not be sent to.
        """
        parts = urlsplit(base)
        local = parts.hostname in ("127.0.0.1", "::1", "localhost")
        if not parts.hostname or (parts.scheme != "https" and not (local and parts.scheme == "http")):
            raise DeployError(f"the address of {provider}'s API must start with https://")
        if not token:
            raise DeployError(f"{token_name} is not set")
        if not re.fullmatch(r"[!-~]+", token):
            raise DeployError(f"{token_name}: must be printable ASCII without blanks")
        hide(token)
        self._provider, self._base, self._token_name, self._pause_s = (
            provider,
            base.rstrip("/"),
            token_name,
            pause_s,
        )
        self._session = requests.Session()
        self._auth = _Bearer(token)

    def get(self, path: str, **query: str) -> Any:
        """Return the answer to a GET. See `send`."""
        return self.send("GET", path, query=query)

    def send(
        self,
        method: str,
        path: str,
        body: object = None,
        query: dict[str, str] | None = None,
        once: bool = False,
    ) -> Any:
        """Send a request; return the answer's JSON, None where it is empty.

        Args:
            method: of HTTP.
            path: with its leading slash.
            body: sent as JSON.
            query: parameters.
            once: not repeated where it may have been carried out.

        Raises:
            UnclearError: with `once`, it may have been carried out.
            ApiError: it was refused, or there is no answer after several attempts.
        """
        what = f"{self._provider}: {method} {path}"
        for attempt in range(ATTEMPTS):
            CANCELLATION.check()
            wait_s = self._pause_s * 2**attempt * random.uniform(0.75, 1.25)  # noqa: S311
            try:
                status, headers, content = self._exchange(method, path, body, query)
            except (
                requests.RequestException
            ) as error:  # its text may hold the URL or a header: only its kind is told
                reason, unclear = f"no answer ({type(error).__name__})", not _never_sent(error)
            else:
                if status < 300:
                    return _parsed(content, what)
                reason, unclear = f"{status} {_message(content)}".strip(), status != 429
                if status < 500 and status not in (408, 425, 429):
                    raise ApiError(f"{what}: {reason}{self._hint(status)}", status)
                wait_s = max(wait_s, _asked_pause(headers))
            if once and unclear:
                raise UnclearError(f"{what}: {reason}")
            if attempt < ATTEMPTS - 1:
                wait_s = min(wait_s, _LONGEST_PAUSE_S)
                say(f"{what}: {reason}; again in {wait_s:.0f} s")
                CANCELLATION.pause(wait_s)
        raise ApiError(f"{what}: {reason}, after {ATTEMPTS} attempts")

    def _exchange(
        self, method: str, path: str, body: object, query: dict[str, str] | None
    ) -> tuple[int, "requests.structures.CaseInsensitiveDict[str]", bytes]:
        with self._session.request(
            method,
            self._base + path,
            params=query,
            json=body,
            headers={"Accept": "application/json"},
            auth=self._auth,
            timeout=TIMEOUT_S,
            allow_redirects=False,  # an API has no reason to send the token elsewhere
            stream=True,
        ) as response:
            until, content = time.monotonic() + 2 * TIMEOUT_S[1], b""
            for piece in response.iter_content(1 << 16):
                content += piece
                if len(content) > _LARGEST or time.monotonic() > until:
                    raise requests.ConnectionError("an answer without end")
            return response.status_code, response.headers, content

    def _hint(self, status: int) -> str:
        hints = {
            401: f" (is {self._token_name} right, and not expired?)",
            403: f" (may {self._token_name} do this?)",
        }
        return hints.get(status, "")


class _Bearer(requests.auth.AuthBase):
    """Given for each request, so that requests doesn't put what ~/.netrc holds in its place."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def _never_sent(error: requests.RequestException) -> bool:
    reason = getattr(error.args[0], "reason", None) if error.args else None
    return isinstance(error, requests.ConnectTimeout) or isinstance(
        reason, urllib3.exceptions.NewConnectionError
    )


def _parsed(content: bytes, what: str) -> Any:
    if not content.strip():
        return None
    try:
        return json.loads(content)
    except ValueError:
        raise ApiError(f"{what}: the answer is no JSON") from None


def _message(content: bytes) -> str:
    """Return what an error's body says: `message` (Render), or `error.message` (Google)."""
    try:
        body = json.loads(content)
    except ValueError:
        return ""
    return text(body, "message") or text(body, "error", "message")


def _asked_pause(headers: "requests.structures.CaseInsensitiveDict[str]") -> float:
    """Return the seconds that the provider wants to be left alone for.

    Ratelimit-Reset is documented as the time in seconds since 1970, and its example is a number of seconds.
    """
    asked = headers.get("Retry-After") or headers.get("Ratelimit-Reset") or ""
    if not re.fullmatch(r"\d{1,12}", asked):
        return 0.0
    return float(asked) if int(asked) < 1_000_000 else max(0.0, int(asked) - time.time())
