"""GitHub's REST API by requests: the token for its own hosts only, bounded patience, errors of one line.

Documented at https://docs.github.com/rest (version 2022-11-28).
"""

import dataclasses
import os
import re
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Any, Self
from urllib.parse import urlsplit

import requests

from ml.cli import note
from ml.github.answers import (
    GitHubError,
    UnreachableError,
    UnsureError,
    host,
    rate_limit_s,
    refusal,
    seconds,
)
from ml.github.hosts import Bearer, origin, own_origins, parts_of

API = "https://api.github.com"
JSON = "application/vnd.github+json"
_HEADERS = {"X-GitHub-Api-Version": "2022-11-28", "User-Agent": "cats-vs-dogs"}
_MAX_PAGES = 100
_BROKEN = (requests.ConnectionError, requests.Timeout, requests.exceptions.ChunkedEncodingError)


@dataclasses.dataclass(frozen=True)
class Patience:
    """How often and how long a request is repeated. Times in seconds.

    Attributes:
        attempts: where it fails by a broken connection or 5xx.
        pause_s: before the second attempt; doubled before each further one.
        unclear_s: where a rate limit doesn't say for how long; GitHub asks for a minute at least.
        total_s: all pauses of one client together.
        connect_s: to connect, and between two pieces that are sent.
        answer_s: between the last byte that is sent and the answer, and between two pieces of that.
    """

    attempts: int = 5
    pause_s: float = 1.0
    unclear_s: float = 60.0
    total_s: float = 900.0
    connect_s: float = 30.0
    answer_s: float = 120.0


class GitHub:
    """One repository, as one token sees it."""

    def __init__(
        self,
        repository: str,
        token: str = "",
        api: str = API,
        patience: Patience | None = None,
        tell: Callable[[str], None] = note,
    ) -> None:
        """Connect to nothing yet.

        Args:
            repository: owner/name.
            token: empty: what everybody may see.
            api: where the API is.
            patience: with a server that fails, or wants to be left alone.
            tell: is called with a line for people before each pause.

        Raises:
            GitHubError: one of them is no such thing.
        """
        name = re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9-]{0,99}/([A-Za-z0-9._-]{1,100})", repository)
        if name is None or name[1] in (".", ".."):
            raise GitHubError(f"GITHUB_REPOSITORY must be owner/name, not {repository!r:.80}")
        if not re.fullmatch(r"[!-~]*", token):
            raise GitHubError("GITHUB_TOKEN holds what no token does, such as a space or a newline")
        self.repository, self.api, self.has_token = repository, api.rstrip("/"), bool(token)
        self._token, self._tell = token, tell
        self._patience, self._waited = patience or Patience(), 0.0
        self._session = requests.Session()
        self._own = own_origins(api)

    @classmethod
    def from_environment(cls, write: bool = False, patience: Patience | None = None) -> Self:
        """Return the client that GITHUB_REPOSITORY, GITHUB_TOKEN and GITHUB_API_URL name, as in Actions.

        Args:
            write: whether the token is needed.
            patience: as of the client.

        Raises:
            GitHubError: one is missing or bad.
        """
        repository, token = (os.environ.get(f"GITHUB_{name}", "").strip() for name in ("REPOSITORY", "TOKEN"))
        if not repository:
            raise GitHubError("GITHUB_REPOSITORY is not set: owner/name of the repository with the releases")
        if write and not token:
            raise GitHubError(
                "GITHUB_TOKEN is not set: a token with the permission contents: write is needed"
            )
        return cls(repository, token, os.environ.get("GITHUB_API_URL") or API, patience)

    def call(
        self, method: str, path: str, body: Mapping[str, object] | None = None, again: bool = True
    ) -> dict[str, Any]:
        """Send one request and return the answer's JSON object, empty where there is no answer's body.

        Args:
            method: of HTTP.
            path: under repos/OWNER/NAME/, empty for the repository itself, or a URL that the API gave.
            body: sent as JSON.
            again: whether it may be repeated when nobody knows whether it was carried out.

        Raises:
            UnsureError: nobody knows, and it may not be repeated.
            UnreachableError: no attempt got an answer.
            GitHubError: it is refused.
        """
        with self.send(method, path, again=again, json=body) as response:
            found = {} if response.status_code == 204 else _json(response)
            if not isinstance(found, dict):
                raise GitHubError(f"{host(response)} answers {method} with something other than an object")
            return found

    def pages(self, path: str) -> Iterator[dict[str, Any]]:
        """Yield the entries of a list, page after page; raises as `call`."""
        url = f"{path}?per_page=100"
        for _ in range(_MAX_PAGES):
            with self.send("GET", url) as response:
                entries = _json(response)
                url = response.links.get("next", {}).get("url", "")
            if not isinstance(entries, list) or not all(isinstance(entry, dict) for entry in entries):
                raise GitHubError(f"{host(response)} answers with something other than a list")
            yield from entries
            if not url:
                return
        raise GitHubError(f"a list of more than {_MAX_PAGES} pages")

    def send(
        self,
        method: str,
        path: str,
        again: bool = True,
        accept: str = JSON,
        fine: Collection[int] = (),
        headers: Mapping[str, str] | None = None,
        data: Any = None,
        **options: Any,
    ) -> requests.Response:
        """Send a request, repeated as patience allows, and return the answer.

        Args:
            method: of HTTP.
            path: as of `call`.
            again: as of `call`. One that is refused for a rate limit was not carried out, and is repeated.
            accept: media type.
            fine: statuses of 300 and more that are no error.
            headers: further ones.
            data: the body, a file; each attempt sends it from its start.
            options: of requests.

        Raises:
            GitHubError: as `call`.
        """
        url = path if "://" in path else f"{self.api}/repos/{self.repository}/{path}".rstrip("/")
        if origin(parts_of(url)) not in self._own:
            raise GitHubError(f"refused: the API names {urlsplit(url).hostname}, which is not its own host")
        patience, attempt = self._patience, 0
        while True:
            attempt += 1
            pause = patience.pause_s * 2 ** (attempt - 1)
            if data is not None:
                data.seek(0)
            try:
                response = self._session.request(
                    method,
                    url,
                    headers={**_HEADERS, "Accept": accept, **(headers or {})},
                    auth=Bearer(self._token),
                    data=data,
                    allow_redirects=False,
                    timeout=(patience.connect_s, patience.answer_s),
                    **options,
                )
            except _BROKEN as error:
                failure = f"no answer from {urlsplit(url).hostname} ({type(error).__name__})"
            except requests.RequestException as error:  # its text may hold the header with the token
                raise GitHubError(f"{method} can't be sent: {type(error).__name__}") from None
            else:
                if response.status_code < 300 or response.status_code in fine:
                    return response
                if (limit_s := rate_limit_s(response)) is not None:
                    self.wait(limit_s or max(pause, patience.unclear_s), f"rate limit of {host(response)}")
                    continue
                if response.status_code < 500:
                    raise refusal(method, self.repository, response)
                failure = f"{host(response)} answers {response.status_code}"
                pause = max(pause, seconds(response, "Retry-After"))
                response.close()
            if not again:
                raise UnsureError(failure)
            if attempt >= patience.attempts:
                raise UnreachableError(f"{failure}, {attempt} times")
            self.wait(pause, failure)

    def back_off(self, attempt: int, reason: str) -> None:
        """Wait before another attempt, the first being 0; raises as `wait`."""
        self.wait(self._patience.pause_s * 2**attempt, reason)

    def wait(self, pause_s: float, reason: str) -> None:
        """Wait, and say why.

        Raises:
            UnreachableError: longer than the client's patience, which all its pauses share.
        """
        left = self._patience.total_s - self._waited
        if pause_s > left:
            raise UnreachableError(
                f"{reason}: {pause_s:.0f} s to wait, longer than the {left:.0f} s left for it"
            )
        self._tell(f"{reason}: waiting {pause_s:.0f} s")
        self._waited += pause_s
        time.sleep(pause_s)


def _json(response: requests.Response) -> Any:
    try:
        return response.json()
    except ValueError:
        raise GitHubError(f"{host(response)} answers with something other than JSON") from None
