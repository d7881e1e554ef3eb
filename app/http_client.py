"""GET requests that end: bounded in time and redirects, with secrets for the first host only."""

import email.utils
import queue
import re
import threading
import time
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any
from urllib.parse import SplitResult, unquote, urljoin, urlsplit

import requests
import urllib3

MAX_REDIRECTS = 10

_CHUNK_BYTES = 1 << 16


@dataclass(frozen=True)
class Patience:
    """How long one request may take, in seconds."""

    connect_s: float = 10.0
    read_s: float = 30.0
    """Between two pieces of the answer."""
    answer_s: float = 60.0
    """From the request to the end of the answer's header, whatever happens in between."""


class DownloadError(RuntimeError):
    """No file to be had; the message is one line and holds no secret."""


class UnreachableError(DownloadError):
    """A failure that another attempt, or time, may mend.

    Attributes:
        retry_after_s: for how long the server wants to be left alone, in seconds.
    """

    def __init__(self, reason: str, retry_after_s: float = 0.0) -> None:
        super().__init__(reason)
        self.retry_after_s = retry_after_s


class Client:
    """Requests to one host, and to where that redirects."""

    def __init__(self, url: str, token: str | None) -> None:
        """Connect to nothing yet.

        Args:
            url: http or https; its user info, if any, is what authorizes where there is no token.
            token: Bearer token for the URL's host.
        """
        parts = urlsplit(url)
        self.url = _bare(parts)
        """Without user info and fragment."""
        self._session = _Session()
        self._auth = _Authorization(None)
        if token is not None:
            self._auth = _Authorization(f"Bearer {token}")
        elif parts.username is not None:
            name, password = unquote(parts.username), unquote(parts.password or "")
            self._auth = _Authorization(requests.auth._basic_auth_str(name, password))

    def __enter__(self) -> "Client":
        """Return itself."""
        return self

    def __exit__(self, *_: object) -> None:
        """Close its connections."""
        self._session.close()

    def get(self, url: str, headers: dict[str, str], patience: Patience) -> requests.Response:
        """Request a URL of the client's host; return the answer, whatever its status, its body unread.

        Raises:
            UnreachableError: no connection, or no answer in time.
            DownloadError: too many redirects, or one that leads nowhere.
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
            if _origin(target) != _origin(urlsplit(url)):
                auth = _Authorization(None)  # for good: the other host must not choose where it goes
            url = _bare(target)
        raise DownloadError(f"more than {MAX_REDIRECTS} redirects")

    def _send(
        self, url: str, headers: dict[str, str], auth: "_Authorization", patience: Patience
    ) -> requests.Response:
        """Request in a thread that can be left behind.

        A socket's timeouts bound neither name resolution nor a header that comes byte by byte.
        """
        session, timeout = self._session, (patience.connect_s, patience.read_s)
        answers: queue.SimpleQueue[requests.Response | Exception] = queue.SimpleQueue()
        left_behind = threading.Event()

        def request() -> None:
            try:
                response = session.get(
                    url, headers=headers, auth=auth, allow_redirects=False, stream=True, timeout=timeout
                )
            except Exception as error:  # noqa: BLE001  (handed on)
                answers.put(error)
                return
            answers.put(response)
            if left_behind.is_set():
                response.close()

        threading.Thread(target=request, name="request", daemon=True).start()
        try:
            answer = answers.get(timeout=patience.answer_s)
        except queue.Empty:
            left_behind.set()
            answer = requests.Timeout()
        match answer:  # the text of an error may hold the URL with its secrets
            case requests.Response():
                return answer
            case requests.Timeout():
                raise UnreachableError("no answer in time")
            case requests.ConnectionError():
                raise UnreachableError(f"no connection ({type(answer).__name__})")
            case _:
                raise DownloadError(type(answer).__name__)


def read(response: requests.Response) -> bytes:
    """Return what has come of the body; nothing at its end.

    It doesn't wait for a full piece: a trickle must show.

    Raises:
        UnreachableError: the connection broke, or nothing came in time.
    """
    try:
        piece: bytes = response.raw.read1(_CHUNK_BYTES, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError):
        raise UnreachableError("the connection broke, or nothing came in time") from None
    return piece


def refusal(response: requests.Response) -> DownloadError:
    """Return the error that stands for an answer's status. Of its URL, it names the host only."""
    status = response.status_code
    reason = f"{urlsplit(response.url).hostname} answered {status}"
    if status in (408, 425, 429) or status >= 500:
        return UnreachableError(reason, retry_after_s(response.headers.get("Retry-After", "")))
    return DownloadError(reason)


class _Session(requests.Session):
    def resolve_redirects(self, *_: Any, **__: Any) -> Iterator[Any]:
        """Prepare no next request: it would read the redirect's body into memory, of any size."""
        return iter(())


class _Authorization(requests.auth.AuthBase):
    """A header for one request. Given even where it is empty, so that requests doesn't look into ~/.netrc."""

    def __init__(self, value: str | None) -> None:
        self._value = value

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if self._value is not None:
            request.headers["Authorization"] = self._value
        return request


def _bare(parts: SplitResult) -> str:
    return parts._replace(netloc=parts.netloc.rpartition("@")[2], fragment="").geturl()


def _origin(parts: SplitResult) -> tuple[str, str | None, int]:
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def retry_after_s(value: str) -> float:
    """Return the seconds that a Retry-After header asks for, 0 where it says nothing (RFC 9110, 10.2.3)."""
    if re.fullmatch(r"[0-9]{1,9}", value):
        return float(value)
    try:
        return max(0.0, email.utils.parsedate_to_datetime(value).timestamp() - time.time())
    except (ValueError, TypeError, OverflowError):
        return 0.0
