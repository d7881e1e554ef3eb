"""What the targets with an API share: their settings, their session, their errors."""

import re
from collections.abc import Mapping
from urllib.parse import urlsplit

import requests

from deploy.cancellation import CANCELLATION
from deploy.output import hide, say
from deploy.target import DeployError
from ml.model.http import session

ATTEMPTS = 7
"""How often a request is sent at most. The pauses between them add up to more than a minute, the window of
the usual rate limits."""


class ApiError(DeployError):
    """The provider rejected a request, or gave no answer.

    Attributes:
        status: HTTP status of the answer, or 0 if there was none.
        retry_after: the answer's Retry-After header, or empty.
    """

    def __init__(self, reason: str, status: int = 0, retry_after: str = "") -> None:
        super().__init__(reason)
        self.status, self.retry_after = status, retry_after


def setting(environ: Mapping[str, str], name: str, pattern: str, expected: str) -> str:
    """Return a variable of the environment.

    Raises:
        DeployError: it does not match the pattern.
    """
    value = environ.get(name, "")
    if not re.fullmatch(pattern, value):
        raise DeployError(f"{name} must be set to {expected}")
    return value


def token(environ: Mapping[str, str], name: str) -> str:
    """Return a secret token from the environment, and keep it out of all output.

    Raises:
        DeployError: it is missing, or not fit for an HTTP header.
    """
    value = environ.get(name, "")
    if not value:
        raise DeployError(f"{name} is not set")
    hide(value)
    return setting(environ, name, r"[!-~]+", "printable ASCII without blanks")


def api_address(environ: Mapping[str, str], name: str, default: str) -> str:
    """Return the API's address: that of the environment, or the default.

    Raises:
        DeployError: the token must not be sent there.
    """
    address = environ.get(name) or default
    parts = urlsplit(address)
    local = parts.hostname in ("127.0.0.1", "::1", "localhost")
    if not parts.hostname or (parts.scheme != "https" and not (local and parts.scheme == "http")):
        raise DeployError(f"{name} must start with https://")
    return address.rstrip("/")


def api_session(provider: str, secret: str, pause_s: float) -> requests.Session:
    """Return a session that repeats what is safe to repeat, and that a signal can interrupt.

    Args:
        provider: its name, for messages.
        secret: Bearer token.
        pause_s: before the second attempt, in seconds; each further pause is twice as long.
    """
    return session(
        token=secret,
        attempts=ATTEMPTS,
        backoff_s=pause_s,
        timeout_s=(10, 30),
        wait=CANCELLATION.pause,
        report=lambda line: say(f"{provider}: {line}"),
    )


def hint(status: int, token_name: str) -> str:
    """Return what a person may check after a status of 401 or 403."""
    return {
        401: f" (is {token_name} right, and not expired?)",
        403: f" (does {token_name} have the permission?)",
    }.get(status, "")
