"""Sessions for HTTP APIs: they retry what is safe to retry, and keep secrets on their own host."""

import random
import ssl
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any
from urllib.parse import urljoin, urlsplit

import requests
import urllib3
from requests.adapters import HTTPAdapter
from urllib3.util import Retry

from ml.model.http import TRANSIENT, BearerAuth, retry_after_s
from ml.model.urls import LOOPBACK, loses_encryption, origin

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
    """Return a session that retries transient failures. An untrusted certificate is not one of them.

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


def may_get_secrets(url: str) -> bool:
    """Return whether a token may be sent to an API at a URL: encrypted, unless it is on this machine."""
    try:
        parts = urlsplit(url)
        encrypted = parts.scheme == "https" or (parts.scheme == "http" and parts.hostname in LOOPBACK)
        usable = encrypted and parts.hostname and parts.port != 0
    except ValueError:
        return False
    return bool(usable) and parts.username is None and not parts.query
