"""HTTP clients that retry, end, and keep secrets on their own host: the base of every client here.

`session` is for APIs: it retries what is safe to retry. `Client` is for downloads: each request has a
deadline, and its caller decides about retries (`ml.model.download`).
"""

import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any
from urllib.parse import unquote, urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from requests.auth import AuthBase, HTTPBasicAuth
from urllib3.util import Retry

from ml.model.urls import bare, loses_encryption, origin

MAX_REDIRECTS = 10

TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which another attempt may succeed (RFC 9110, RFC 6585, RFC 8470)."""
_SECRET_HEADERS = ("Authorization", "Proxy-Authorization", "Cookie", "X-API-Key")


def session(
    *,
    token: str | None = None,
    headers: Mapping[str, str] | None = None,
    attempts: int = 5,
    backoff_s: float = 1.0,
    backoff_max_s: float = 60.0,
    retry_after_max_s: float = 60.0,
    timeout_s: tuple[float, float] = (10.0, 60.0),
    methods: Collection[str] = Retry.DEFAULT_ALLOWED_METHODS,
    transient: Collection[int] = TRANSIENT,
    wait: Callable[[float], None] = time.sleep,
    give_up: Callable[[], bool] = lambda: False,
    report: Callable[[str], None] = lambda _: None,
) -> requests.Session:
    """Return a session that retries transient failures, to which untrusted certificates do not belong.

    The response to the last attempt is returned whatever its status; a connection that fails in every attempt
    raises `requests.RequestException`. No text of such an error is fit for a log: it may hold the URL.

    Args:
        token: Bearer token. It is never sent to another host that a redirect leads to.
        headers: sent with every request. API keys and cookies are dropped on a redirect to another host too.
        attempts: how often a request is sent at most.
        backoff_s: pause before the second attempt, in seconds; it doubles for each further one, with up to a
            half more by chance.
        backoff_max_s: longest such pause, in seconds.
        retry_after_max_s: longest pause that a Retry-After header may ask for, in seconds; it is cut to that.
        timeout_s: to connect, and between two pieces of a response, in seconds.
        methods: retried after a transient status or a broken connection; default: the idempotent ones.
            Others are repeated only if the request was never sent.
        transient: statuses that are retried.
        wait: sleeps for a number of seconds.
        give_up: called after each failed attempt; True: that attempt is the last one.
        report: called with one line before each pause.
    """

    class ReportedRetry(Retry):
        """urllib3's retries, with a pause that is reported and can be interrupted."""

        def is_exhausted(self) -> bool:
            """Return whether the last attempt, which failed, is final."""
            error = self.history[-1].error if self.history else None
            cause = error.args[0] if isinstance(error, urllib3.exceptions.SSLError) else None
            untrusted = isinstance(cause, ssl.SSLCertVerificationError)
            return untrusted or give_up() or super().is_exhausted()

        def sleep(self, response: urllib3.BaseHTTPResponse | None = None) -> None:
            last = self.history[-1]
            asked_s = 0.0 if response is None else retry_after_s(response.headers.get("Retry-After", ""))
            # Not urllib3's own backoff, which makes no pause before the second attempt.
            growth = 2 ** (len(self.history) - 1) * random.uniform(1.0, 1.5)  # noqa: S311
            pause_s = min(asked_s, retry_after_max_s) or min(backoff_s * growth, backoff_max_s)
            if pause_s > 0:
                reason = f"status {last.status}" if last.status else type(last.error).__name__
                report(f"{reason}: next attempt in {pause_s:.1f} s")
                wait(pause_s)

    retry = ReportedRetry(
        total=attempts - 1,
        allowed_methods=methods,
        status_forcelist=transient,
        raise_on_status=False,
    )
    made = _ApiSession()
    made.auth = BearerAuth(token)
    made.headers.update(headers or {})
    for scheme in ("http://", "https://"):
        made.mount(scheme, _Adapter(retry, timeout_s))
    return made


class BearerAuth(AuthBase):
    """Adds a Bearer token; even without one, it keeps requests from reading ~/.netrc."""

    def __init__(self, token: str | None) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header."""
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


class _ApiSession(requests.Session):
    def get_redirect_target(self, resp: requests.Response) -> str | None:
        """Return where a redirect leads; raise InvalidSchema if it leaves encryption."""
        location = super().get_redirect_target(resp)
        if location is not None and loses_encryption(resp.url, urljoin(resp.url, location)):
            raise requests.exceptions.InvalidSchema("a redirect from https to http")
        return location

    def resolve_redirects(self, *arguments: Any, **options: Any) -> Iterator[Any]:
        """Follow redirects, but prepare no next request for a caller that follows none."""
        return iter(()) if options.get("yield_requests") else super().resolve_redirects(*arguments, **options)

    def rebuild_auth(self, prepared_request: requests.PreparedRequest, response: requests.Response) -> None:
        """Drop secrets when a redirect leaves the host; requests would keep all headers but Authorization."""
        if origin(prepared_request.url or "") != origin(response.request.url or ""):
            for name in _SECRET_HEADERS:
                prepared_request.headers.pop(name, None)


class _Adapter(HTTPAdapter):
    """Every request has a time-out, which requests leaves to each call."""

    def __init__(self, retry: Retry, timeout_s: tuple[float, float]) -> None:
        self._timeout_s = timeout_s
        super().__init__(max_retries=retry)

    def send(self, *arguments: Any, **options: Any) -> requests.Response:
        options["timeout"] = options.get("timeout") or self._timeout_s
        return super().send(*arguments, **options)


@dataclass(frozen=True)
class Patience:
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

    def open(self, url: str, headers: dict[str, str], patience: Patience) -> requests.Response:
        """Request a URL of the client's host; return the response, whatever its status, with its body unread.

        Raises:
            UnreachableError: no connection, or no response in time.
            DownloadError: too many redirects, or an invalid one.
        """
        auth, deadline = self._auth, time.monotonic() + patience.answer_s
        for _ in range(MAX_REDIRECTS + 1):
            response = self._send(url, headers, auth, patience, deadline)
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
        self, url: str, headers: dict[str, str], auth: AuthBase, patience: Patience, deadline: float
    ) -> requests.Response:
        """Send the request in a thread that can be abandoned at the deadline.

        Timeouts of a socket limit neither name resolution nor a header that arrives byte by byte.
        """
        timeout = (patience.connect_s, patience.read_s)
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
