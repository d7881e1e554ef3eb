"""What the targets with an API share: their settings, their session, their errors."""

import re
from collections.abc import Callable, Mapping
from typing import Any

import requests

from deploy.cancellation import CANCELLATION
from deploy.output import hide, say
from deploy.target import DeployError
from ml.api_session import may_get_secrets, session
from ml.model.http import TRANSIENT

_ATTEMPTS = 7  # the pauses between them add up to more than a minute, the window of the usual rate limits


class ApiError(DeployError):
    """The provider rejected a request (`status`: of HTTP), or gave no answer (0)."""

    def __init__(self, reason: str, status: int = 0, token_name: str = "") -> None:
        checks = {401: "is {} right, and not expired?", 403: "does {} have the permission?"}
        hint = f" ({checks[status].format(token_name)})" if status in checks else ""
        super().__init__(reason + hint)
        self.status = status


def setting(environ: Mapping[str, str], name: str, pattern: str, expected: str) -> str:
    """Return a variable of the environment; raise DeployError if it does not match the pattern."""
    value = environ.get(name, "")
    if not re.fullmatch(pattern, value):
        raise DeployError(f"{name} must be set to {expected}")
    return value


def token(environ: Mapping[str, str], name: str) -> str:
    """Return a secret of the environment that fits into an HTTP header, and keep it out of all output."""
    hide(environ.get(name, ""))
    return setting(environ, name, r"[!-~]+", "a token of printable ASCII without blanks")


def api_address(environ: Mapping[str, str], name: str, default: str) -> str:
    """Return the API's address; raise DeployError if the token must not be sent there."""
    address = environ.get(name) or default
    if not may_get_secrets(address):
        raise DeployError(f"{name} must start with https://, without user info and query")
    return address.rstrip("/")


def url_of_service(url: str) -> str:
    """Return the URL that a provider states; raise DeployError if it is not a URL."""
    if not re.fullmatch(r"https?://[!-~]+", url):
        raise DeployError("the API states no URL of the service")
    return url


def api_session(provider: str, secret: str, pause_s: float) -> requests.Session:
    """Return a session that repeats what is safe to repeat, and that a signal can interrupt.

    Args:
        provider: its name, for messages.
        secret: Bearer token.
        pause_s: before the second attempt, in seconds; each further pause is twice as long.
    """
    return session(
        token=secret,
        attempts=_ATTEMPTS,
        backoff_s=pause_s,
        timeout_s=(10, 30),
        wait=CANCELLATION.pause,
        report=lambda line: say(f"{provider}: {line}"),
    )


def send_once(send: Callable[[], Any], effect: Callable[[], Any], pause_s: float) -> Any:
    """Send a request that must take effect exactly once, although its answer may be lost.

    Args:
        send: sends it; returns what it has begun, or nothing if the answer does not say.
        effect: returns what an earlier attempt has begun, if anything.
        pause_s: before the second attempt, in seconds; each further pause is twice as long.

    Raises:
        DeployError: the request was rejected, or had no effect.
    """
    for attempt in range(1, _ATTEMPTS + 1):
        failure = DeployError("the request was accepted, but has begun nothing")
        try:
            if begun := send():
                return begun
        except ApiError as error:
            if error.status and error.status not in TRANSIENT:
                raise
            failure = error
        if begun := effect():
            return begun
        if attempt == _ATTEMPTS or not isinstance(failure, ApiError):
            break
        say(f"{failure}; nothing has begun: trying again")
        CANCELLATION.pause(pause_s * 2 ** (attempt - 1))
    raise failure
