"""The HTTP client of downloads: each request has a deadline, and secrets stay on their own host.

Its caller decides about retries, see `ml.model.download`. For APIs there is `ml.api_session`.
"""

import re
import threading
import time
from collections.abc import Iterator
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import requests
import urllib3
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.util import Retry

from ml.model.urls import bare, loses_encryption, origin

MAX_REDIRECTS = 10

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which another attempt may succeed (RFC 9110, RFC 6585, RFC 8470)."""


class BearerAuth(AuthBase):
    """Adds a Bearer token; even without one, it keeps requests from reading ~/.netrc."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header."""
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


@dataclass(frozen=True)
class Timeouts:
    """Limits of one request, in seconds."""

    connect_s: float = 10.0
    read_s: float = 30.0
    """Between two pieces of the response."""
    answer_s: float = 60.0
    """From the first request to the end of the last response's header, with all redirects."""


class DownloadError(RuntimeError):
    """The download failed; the message is one line and holds no secret."""


class UnreachableError(DownloadError):
    """A failure after which another attempt may succeed.

    Attributes:
        retry_after_s: pause that the server asks for, in seconds.
    """

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class MissingError(DownloadError):
    """The server has no such file. Storage services answer 403 too for a file that does not exist."""


class Client(requests.Session):
    """HTTP client for one host and the hosts that it redirects to, with a deadline for each request."""

    def __init__(self, url: str, token: str | None) -> None:
        """Prepare the client; it does not connect yet.

        Args:
            url: http or https; user info in it authorizes the requests if there is no token.
            token: Bearer token for the URL's host.
        """
        super().__init__()
        parts = urlsplit(url)
        self.url = bare(parts)
        """Without user info and fragment."""
        self._auth: AuthBase = BearerAuth(token)
        if token is None and parts.username is not None:
            self._auth = HTTPBasicAuth(unquote(parts.username), unquote(parts.password or ""))

    def open(self, url: str, headers: dict[str, str], timeouts: Timeouts) -> requests.Response:
        """Request a URL of the client's host; return the response, whatever its status, with its body unread.

        Raises:
            UnreachableError: no connection, or no response in time.
            DownloadError: too many redirects, or an invalid one.
        """
        auth, deadline = self._auth, time.monotonic() + timeouts.answer_s
        for _ in range(MAX_REDIRECTS + 1):
            response = self._send(url, headers, auth, timeouts, deadline)
            try:
                location = self.get_redirect_target(response)
                if location is None:
                    return response
                target = urlsplit(urljoin(url, location))
                allowed = target.scheme in ("http", "https") and target.hostname and target.port != 0
            except ValueError:  # no URL, no port, no UTF-8
                allowed = False
            response.close()
            if not allowed:
                raise DownloadError("the server redirects to something other than an http(s) URL")
            if loses_encryption(url, target.geturl()):
                raise DownloadError(f"{urlsplit(url).hostname} redirects from https to http")
            if origin(target.geturl()) != origin(url):
                # From here on: the other host must not decide where the secret goes.
                auth = BearerAuth(None)
            url = bare(target)
        raise DownloadError(f"more than {MAX_REDIRECTS} redirects")

    def _send(
        self, url: str, headers: dict[str, str], auth: AuthBase, timeouts: Timeouts, deadline: float
    ) -> requests.Response:
        """Send the request in a thread that can be abandoned at the deadline.

        Timeouts of a socket limit neither name resolution nor a header that arrives byte by byte.
        """
        timeout = (timeouts.connect_s, timeouts.read_s)
        future: Future[requests.Response] = Future()

        def request() -> None:
            try:
                response = self.get(
                    url, headers=headers, auth=auth, allow_redirects=False, stream=True, timeout=timeout
                )
            except Exception as error:  # noqa: BLE001  (passed to the caller)
                future.set_exception(error)
            else:
                future.set_result(response)

        threading.Thread(target=request, name="request", daemon=True).start()
        try:
            return future.result(timeout=max(0.0, deadline - time.monotonic()))
        except (TimeoutError, requests.Timeout):
            future.add_done_callback(_close)
            raise UnreachableError("no answer in time") from None
        except DownloadError:  # of an adapter
            raise
        except requests.ConnectionError as error:  # its text may hold the URL with its secrets
            raise UnreachableError(f"no connection ({type(error).__name__})") from None
        except Exception as error:  # noqa: BLE001
            raise DownloadError(type(error).__name__) from None

    def resolve_redirects(self, *_: Any, **__: Any) -> Iterator[Any]:
        """Prepare no next request: requests would read the redirect's body, of any size, into memory."""
        return iter(())


def _close(request: Future[requests.Response]) -> None:
    """Close the response that came after the deadline, if one came."""
    if not request.exception():
        request.result().close()


def refusal(response: requests.Response) -> DownloadError:
    """Return the error for a response's status. Of its URL, the message names the host only."""
    status = response.status_code
    reason = f"{urlsplit(response.url).hostname} answered {status}"
    if (pause_s := rate_limit_s(response)) is not None:
        return UnreachableError(f"{reason}, a rate limit", pause_s)
    if status in TRANSIENT or status >= 500:
        return UnreachableError(reason, retry_after_s(response.headers.get("Retry-After", "")))
    return MissingError(reason) if status in (403, 404, 410) else DownloadError(reason)


def rate_limit_s(response: requests.Response) -> float | None:
    """Return how long a rate limit lasts, in seconds; None: the headers state none.

    GitHub answers 403 as well as 429, see "Rate limits for the REST API" in its documentation.
    """
    if response.status_code not in (403, 429):
        return None
    if pause_s := retry_after_s(response.headers.get("Retry-After", "")):
        return pause_s
    if response.headers.get("X-RateLimit-Remaining") != "0":
        return None
    reset = response.headers.get("X-RateLimit-Reset", "")
    return max(1.0, float(reset) - time.time() + 1) if re.fullmatch("[0-9]{1,12}", reset) else 0.0


def retry_after_s(value: str) -> float:
    """Return the seconds that a Retry-After header asks for, at most 6 hours; 0 if it is empty or invalid."""
    try:
        return float(Retry().parse_retry_after(value))
    except (urllib3.exceptions.InvalidHeader, ValueError, OverflowError):
        return 0.0
