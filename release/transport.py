"""HTTP requests to GitHub's API for PyGithub: token for its own hosts only, bounded patience, short errors.

This replaces PyGithub's own transport, which uploads without a time-out, treats 307 as success and 429 as
final, and repeats either every POST or none, not even one that a rate limit rejected.
"""

import dataclasses
import re
import time
from collections.abc import Callable
from typing import Any
from urllib.parse import urlsplit

import requests
from github.Requester import HTTPRequestsConnectionClass, Requester, RequestsResponse

from ml.api_session import may_get_secrets, session
from ml.model import http, urls
from ml.model.errors import PipelineError

_OR_WORKFLOWS = (
    ", or workflows: write, which GitHub wants if the default branch has other workflows now: push the tag "
    "yourself (git push origin COMMIT:refs/tags/TAG), and run it again"
)
_REPEATED = frozenset({"GET", "PATCH"})
"""Methods that are repeated if the response is lost. Repeating a POST could create a second draft, and
repeating a DELETE could delete a file that another publisher has completed in the meantime."""


class GitHubError(PipelineError):
    """GitHub rejects a request, or its response is not what its documentation says."""


class NotFoundError(GitHubError):
    """404: there is no such thing, or the token may not see or change it."""


class GoneError(GitHubError):
    """What the request needs is switched off."""


class ExistsError(GitHubError):
    """422 already_exists: a release with this tag is published, or an asset with this name exists."""


class UnavailableError(GitHubError):
    """No response, or 5xx, in all attempts; or a rate limit that lasts too long."""


class UnsureError(GitHubError):
    """A request that must not be repeated got no response, or 5xx: it may have been carried out or not."""


@dataclasses.dataclass(frozen=True)
class Patience:
    """How often and how long requests are repeated. Times in seconds.

    Attributes:
        attempts: how often a request is sent at most if the response is 5xx or missing.
        pause_s: pause before the second attempt; it doubles for each further one.
        unclear_s: pause for a rate limit that states no time. GitHub asks for at least a minute.
        total_s: limit for the sum of all pauses.
        connect_s: time to connect.
        response_s: time between two pieces of a request or of its response.
    """

    attempts: int = 5
    pause_s: float = 1.0
    unclear_s: float = 60.0
    total_s: float = 900.0
    connect_s: float = 30.0
    response_s: float = 120.0


class Transport:
    """Sends PyGithub's requests about one repository."""

    def __init__(
        self, repository: str, token: str, api: str, patience: Patience, report: Callable[[str], None]
    ) -> None:
        """Check the arguments; nothing is sent yet. See `release.github.GitHub` for them."""
        if not re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}/(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}", repository):
            raise GitHubError(f"GITHUB_REPOSITORY must be owner/name, not {repository!r:.80}")
        if not re.fullmatch(r"[!-~]*", token):
            raise GitHubError("GITHUB_TOKEN contains a character that no token has, such as a space")
        check_server("GITHUB_API_URL", api)
        self.token, self.patience = token, patience
        self._repository, self._api, self._origins = repository, api.rstrip("/"), own_origins(api)
        self._report, self._waited_s = report, 0.0
        self._session = session(
            token=token or None,
            attempts=patience.attempts,
            backoff_s=patience.pause_s,
            retry_after_max_s=patience.total_s + 1,  # so that a longer one is an error
            timeout_s=(patience.connect_s, patience.response_s),
            methods=_REPEATED,
            transient=range(500, 600),
            wait=self._wait,
            report=report,
        )

    def requester(self) -> Requester:
        """Return PyGithub's base object. It never sees the token, which the session adds."""

        class OwnRequester(Requester):
            """A subclass, because the connection classes are attributes of the class."""

        bound = {"send": self.send, "scheme": urlsplit(self._api).scheme}
        connection: Any = type("_BoundConnection", (_Connection,), bound)
        OwnRequester.injectConnectionClasses(connection, connection)
        return OwnRequester(
            auth=None, base_url=self._api, timeout=0, user_agent="cats-vs-dogs", per_page=100, verify=True,
            retry=None, pool_size=None, lazy=True, api_version="2022-11-28",
        )  # fmt: skip

    def check_origin(self, url: str) -> None:
        """Raise GitHubError if a URL leads to another host than the API's own."""
        if urls.origin(url) not in self._origins:
            host = urlsplit(url).hostname
            raise GitHubError(f"the API names {host}, which is not its own host: not contacted")

    def back_off(self, attempt: int, reason: str) -> None:
        """Wait before another attempt, the first being 0.

        Raises:
            UnavailableError: that would exceed the patience, which all pauses share.
        """
        self._pause(self.patience.pause_s * 2**attempt, reason)

    def send(self, method: str, url: str, headers: dict[str, str], body: Any) -> requests.Response:
        """Send a request, wait for rate limits, and return the response if its status is 2xx.

        Raises:
            UnsureError: the request may have been carried out or not.
            GitHubError: one of the others, see there.
        """
        self.check_origin(url)
        host = urlsplit(url).hostname
        while True:
            if hasattr(body, "seek"):
                body.seek(0)
            try:
                response = self._session.request(
                    method, url, headers=headers, data=body, allow_redirects=False
                )
            except requests.RequestException as error:  # its text may contain secrets
                failure = f"no response from {host} ({type(error).__name__})"
            else:
                failure = f"{host} answers {response.status_code}" if response.status_code >= 500 else ""
            if failure and method in _REPEATED:
                raise UnavailableError(f"{failure}, {self.patience.attempts} times")
            if failure:
                raise UnsureError(failure)
            if (limit_s := _rate_limit_s(response)) is None:
                break
            self._pause(limit_s or self.patience.unclear_s, f"rate limit of {host}")
        if response.status_code >= 300:
            raise self._refusal(method, response)
        return response

    def _pause(self, pause_s: float, reason: str) -> None:
        self._report(f"{reason}: next attempt in {pause_s:.1f} s")
        self._wait(pause_s, f"{reason}: ")

    def _wait(self, pause_s: float, reason: str = "") -> None:
        left_s = self.patience.total_s - self._waited_s
        if pause_s > left_s:
            raise UnavailableError(f"{reason}{pause_s:.0f} s to wait, but only {left_s:.0f} s are left")
        self._waited_s += pause_s
        time.sleep(pause_s)

    def _refusal(self, method: str, response: requests.Response) -> GitHubError:
        """Return the error for a status of 3xx or 4xx."""
        where, text = f"{self._repository} at {urlsplit(response.url).hostname}", self._message(response)
        match response.status_code:
            case 301 | 302 | 307 | 308:
                return GitHubError(
                    f"{where}: the repository has moved: GITHUB_REPOSITORY must be its new name"
                )
            case 401:
                return GitHubError(f"{where}: the token in GITHUB_TOKEN is not accepted or has expired (401)")
            case 403:
                scope = "issues" if "/issues" in urlsplit(response.url).path else "contents"
                need = f"{scope}: {'read' if method == 'GET' else 'write'}"
                need += _OR_WORKFLOWS if need == "contents: write" else ""
                return GitHubError(f"{where}: the token lacks the permission {need} (403: {text})")
            case 404 if method == "GET":
                return NotFoundError(f"{where}: not found, or the token may not see it (404)")
            case 410:
                return GoneError(f"{where}: {text} (410)")
            case 404:
                need = f"contents: write{_OR_WORKFLOWS}"
                return NotFoundError(f"{where}: not found, or the token lacks the permission {need} (404)")
            case 422 if text.startswith("No commit found"):  # GitHub's 404 of a tag
                return NotFoundError(f"{where}: {text} (422)")
            case 422 if "already_exists" in text:
                return ExistsError(f"{where}: {text} (422)")
        return GitHubError(f"{where}: {method} is rejected ({response.status_code}: {text})")

    def _message(self, response: requests.Response) -> str:
        """Return the message of an error response as one short line without the token."""
        try:
            body = response.json()
            text = f"{body['message']}: {body['errors']}" if body.get("errors") else str(body["message"])
        except (ValueError, AttributeError, TypeError, KeyError):
            text = response.reason or ""
        text = re.sub(r"[^ -~]+", " ", re.sub(r"[][{}']", "", text))
        return (text.replace(self.token, "***") if self.token else text)[:300]


class _Connection(HTTPRequestsConnectionClass):
    """What PyGithub calls a connection, by a transport's `send`."""

    scheme: str
    send: Callable[[str, str, dict[str, str], Any], requests.Response]

    def __init__(self, host: str, port: int | None = None, **_: Any) -> None:
        name = f"[{host}]" if ":" in host else host
        self.host, self._base = host, f"{self.scheme}://{name}" + (f":{port}" if port else "")

    def getresponse(self) -> RequestsResponse:
        """Send the request that `request` has stored."""
        return RequestsResponse(self.send(self.verb, self._base + self.url, self.headers, self.input))

    def close(self) -> None:
        """Do nothing: the transport keeps its session."""


def check_server(name: str, url: str) -> None:
    """Check that a token may be sent to a URL: encrypted, unless the server is on this machine.

    Args:
        name: of the variable that contains the URL.
        url: the URL.

    Raises:
        PipelineError: it may not, or this is not the URL of a server.
    """
    if not may_get_secrets(url):
        raise PipelineError(f"{name} must be https:// without user info; http:// is only for loopback")


def own_origins(api: str) -> set[tuple[str, str | None, int]]:
    """Return scheme, host and port of the servers that get the token: the API, and the one for uploads."""
    uploads = re.sub(r"^https://api\.(github\.com|[^./]+\.ghe\.com)(?=[:/]|$)", r"https://uploads.\1", api)
    return {urls.origin(api), urls.origin(uploads)}


def site(api: str) -> str:
    """Return the URL of the site for browsers: github.com for api.github.com, otherwise the API's host."""
    parts = urlsplit(api)
    return f"{parts.scheme}://" + re.sub(r"^api\.(github\.com|[^.]+\.ghe\.com)$", r"\1", parts.netloc)


def _rate_limit_s(response: requests.Response) -> float | None:
    """Return how long a rate limit lasts, in seconds; 0 if GitHub doesn't say; None if there is no limit."""
    if (pause_s := http.rate_limit_s(response)) is not None or response.status_code not in (403, 429):
        return pause_s
    return 0.0 if response.status_code == 429 or "rate limit" in response.text.lower() else None
