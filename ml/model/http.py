"""HTTP clients that retry, end, and keep secrets on their own host: the base of every client here.

`session` is for APIs: it retries what is safe to retry. `Client` is for downloads: each request has a
deadline, and its caller decides about retries (`ml.model.download`).
"""

import email.utils
import queue
import random
import re
import ssl
import threading
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Self
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

MAX_REDIRECTS = 10

_CHUNK_BYTES = 1 << 16


TRANSIENT = frozenset({408, 425, 429, 500, 502, 503, 504})
"""Statuses after which another attempt may succeed (RFC 9110, RFC 6585, RFC 8470)."""
SAFE_METHODS = frozenset({"GET", "HEAD", "OPTIONS", "PUT", "DELETE"})
"""Idempotent methods. A request of another method is repeated only if it was never sent."""
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
    methods: Collection[str] = SAFE_METHODS,
    transient: Collection[int] = TRANSIENT,
    wait: Callable[[float], None] = time.sleep,
    give_up: Callable[[], bool] = lambda: False,
    report: Callable[[str], None] = lambda _: None,
) -> requests.Session:
    """Return a session that retries transient failures; a certificate that is not trusted is none.

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
        methods: retried after a transient status or a broken connection.
        transient: statuses that are retried.
        wait: sleeps for a number of seconds.
        give_up: called after each failed attempt; True: that attempt is the last one.
        report: called with one line before each pause.
    """
    retry = _Retry(
        total=attempts - 1,
        allowed_methods=methods,
        status_forcelist=transient,
        backoff_factor=backoff_s,
        backoff_max=backoff_max_s,
        retry_after_max=int(retry_after_max_s),
        raise_on_status=False,
    )
    retry.wait, retry.give_up, retry.report = wait, give_up, report
    made = _ApiSession()
    made.auth = BearerAuth(token)
    made.headers.update(headers or {})
    for scheme in ("http://", "https://"):
        made.mount(scheme, _Adapter(retry, timeout_s))
    return made


class HeaderAuth(requests.auth.AuthBase):
    """Sets the Authorization header; even without one, it keeps requests from reading ~/.netrc."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header."""
        if self._value is not None:
            request.headers["Authorization"] = self._value
        return request


class BearerAuth(HeaderAuth):
    """A Bearer token for every request of a session."""

    def __init__(self, token: str | None) -> None:
        super().__init__(f"Bearer {token}" if token else None)


class _ApiSession(requests.Session):
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


class _Retry(Retry):
    """urllib3's retries, with a pause that is reported and can be interrupted."""

    wait: Callable[[float], None] = staticmethod(time.sleep)
    give_up: Callable[[], bool] = staticmethod(lambda: False)
    report: Callable[[str], None] = staticmethod(lambda _: None)

    def new(self, **changes: Any) -> Self:
        copy = super().new(**changes)
        copy.wait, copy.give_up, copy.report = self.wait, self.give_up, self.report
        return copy

    def is_exhausted(self) -> bool:
        """Return whether the last attempt, which failed, is final."""
        error = self.history[-1].error if self.history else None
        cause = error.args[0] if isinstance(error, urllib3.exceptions.SSLError) else None
        untrusted = isinstance(cause, ssl.SSLCertVerificationError)
        return untrusted or self.give_up() or super().is_exhausted()

    def get_backoff_time(self) -> float:
        """Return the pause before the next attempt, in seconds; urllib3 makes none before the second."""
        pause_s: float = self.backoff_factor * 2 ** (len(self.history) - 1) * random.uniform(1.0, 1.5)  # noqa: S311
        return min(pause_s, self.backoff_max)

    def sleep(self, response: urllib3.BaseHTTPResponse | None = None) -> None:
        asked_s = self.get_retry_after(response) if response is not None else None
        pause_s = min(asked_s or 0.0, float(self.retry_after_max)) or self.get_backoff_time()
        last = self.history[-1]
        reason = f"status {last.status}" if last.status else type(last.error).__name__
        if pause_s > 0:
            self.report(f"{reason}: next attempt in {pause_s:.1f} s")
            self.wait(pause_s)


@dataclass(frozen=True)
class Patience:
    """Limits of one request, in seconds."""

    connect_s: float = 10.0
    read_s: float = 30.0
    """Between two pieces of the response."""
    answer_s: float = 60.0
    """From the request to the end of the response's header, whatever happens in between."""


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


class Client:
    """HTTP client for one host and the hosts that it redirects to, with a deadline for each request."""

    def __init__(self, url: str, token: str | None) -> None:
        """Prepare the client; it does not connect yet.

        Args:
            url: http or https; user info in it authorizes the requests if there is no token.
            token: Bearer token for the URL's host.
        """
        parts = urlsplit(url)
        self.url = _bare(parts)
        """Without user info and fragment."""
        self._session = _Session()
        self._auth = HeaderAuth(None)
        if token is not None:
            self._auth = HeaderAuth(f"Bearer {token}")
        elif parts.username is not None:
            name, password = unquote(parts.username), unquote(parts.password or "")
            self._auth = HeaderAuth(requests.auth._basic_auth_str(name, password))

    def __enter__(self) -> "Client":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close its connections."""
        self._session.close()

    def get(self, url: str, headers: dict[str, str], patience: Patience) -> requests.Response:
        """Request a URL of the client's host; return the response, whatever its status, with its body unread.

        Raises:
            UnreachableError: no connection, or no response in time.
            DownloadError: too many redirects, or an invalid one.
        """
        auth = self._auth
        for _ in range(MAX_REDIRECTS + 1):
            response = self._send(url, headers, auth, patience)
            try:
                location = self._session.get_redirect_target(response)
                if location is None:
                    return response
                target = urlsplit(urljoin(url, location))
                allowed = target.scheme in ("http", "https") and target.hostname and target.port != 0
            except ValueError:  # no URL, no port, no UTF-8
                allowed = False
            response.close()
            if not allowed:
                raise DownloadError("the server redirects to something other than an http(s) URL")
            if origin(target.geturl()) != origin(url):
                # From here on: the other host must not decide where the secret goes.
                auth = HeaderAuth(None)
            url = _bare(target)
        raise DownloadError(f"more than {MAX_REDIRECTS} redirects")

    def _send(
        self, url: str, headers: dict[str, str], auth: HeaderAuth, patience: Patience
    ) -> requests.Response:
        """Send the request in a thread that can be abandoned at the deadline.

        Timeouts of a socket limit neither name resolution nor a header that arrives byte by byte.
        """
        session, timeout = self._session, (patience.connect_s, patience.read_s)
        results: queue.SimpleQueue[requests.Response | Exception] = queue.SimpleQueue()
        abandoned = threading.Event()

        def request() -> None:
            try:
                response = session.get(
                    url, headers=headers, auth=auth, allow_redirects=False, stream=True, timeout=timeout
                )
            except Exception as error:  # noqa: BLE001  (passed to the caller)
                results.put(error)
                return
            results.put(response)
            if abandoned.is_set():
                response.close()

        threading.Thread(target=request, name="request", daemon=True).start()
        try:
            result = results.get(timeout=patience.answer_s)
        except queue.Empty:
            abandoned.set()
            result = requests.Timeout()
        match result:  # the text of an error may hold the URL with its secrets
            case requests.Response():
                return result
            case requests.Timeout():
                raise UnreachableError("no answer in time")
            case requests.ConnectionError():
                raise UnreachableError(f"no connection ({type(result).__name__})")
            case _:
                raise DownloadError(type(result).__name__)


def read(response: requests.Response) -> bytes:
    """Return the next bytes of the body, or nothing at its end.

    It returns what has arrived without waiting for more, so that the caller notices a slow server.

    Raises:
        UnreachableError: the connection broke, or nothing arrived in time.
    """
    try:
        piece: bytes = response.raw.read1(_CHUNK_BYTES, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError):
        raise UnreachableError("the connection broke, or nothing arrived in time") from None
    return piece


def refusal(response: requests.Response) -> DownloadError:
    """Return the error for a response's status. Of its URL, the message names the host only."""
    status = response.status_code
    reason = f"{urlsplit(response.url).hostname} answered {status}"
    if status in (408, 425, 429) or status >= 500:
        return UnreachableError(reason, retry_after_s(response.headers.get("Retry-After", "")))
    return DownloadError(reason)


class _Session(requests.Session):
    def resolve_redirects(self, *_: Any, **__: Any) -> Iterator[Any]:
        """Prepare no next request: requests would read the redirect's body, of any size, into memory."""
        return iter(())


def _bare(parts: SplitResult) -> str:
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()


def origin(url: str) -> tuple[str, str | None, int]:
    """Return the scheme, host and port of an http(s) URL.

    Raises:
        ValueError: the URL's port is not a number from 0 to 65535.
    """
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def retry_after_s(value: str) -> float:
    """Return the seconds that a Retry-After header asks for; 0 if it is empty or invalid (RFC 9110)."""
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
