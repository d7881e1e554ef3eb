"""Which hosts are the API's own, and the token for them."""

import re
from urllib.parse import SplitResult, urlsplit

import requests

from ml.github.answers import GitHubError

Origin = tuple[str, str | None, int]
"""Scheme, host and port."""
LOOPBACK = {"127.0.0.1", "::1", "localhost"}


class Bearer(requests.auth.AuthBase):
    """A token for one request. Given even where it is empty, so that requests doesn't look into ~/.netrc."""

    def __init__(self, token: str) -> None:
        self._token = token

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        """Add the header."""
        if self._token:
            request.headers["Authorization"] = f"Bearer {self._token}"
        return request


def parts_of(url: str) -> SplitResult:
    """Split an http(s) URL.

    Raises:
        GitHubError: it is none, or holds user info.
    """
    try:
        parts = urlsplit(url)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good or parts.username is not None:
        raise GitHubError("no plain http(s) URL, in GITHUB_API_URL or in an answer of the API")
    return parts


def origin(parts: SplitResult) -> Origin:
    """Return whom a request to the URL reaches."""
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def own_origins(api: str) -> set[Origin]:
    """Return who may get the token: the API, and where assets go.

    Raises:
        GitHubError: the API's URL is none, or would carry the token in the clear over a network.
    """
    parts = parts_of(api)
    if parts.scheme != "https" and parts.hostname not in LOOPBACK:
        raise GitHubError("GITHUB_API_URL must be https://; http:// is for this machine alone")
    return {origin(parts), _uploads(parts)}


def _uploads(api: SplitResult) -> Origin:
    """Where assets go: uploads.github.com beside api.github.com, and the API's own host elsewhere."""
    scheme, name, port = origin(api)
    return scheme, re.sub(r"^api\.(github\.com|[^.]+\.ghe\.com)$", r"uploads.\1", name or ""), port


def pages(api: str) -> str:
    """Return where the site for browsers is: github.com beside api.github.com, the API's host elsewhere."""
    scheme, name, _ = origin(parts_of(api))
    found = re.fullmatch(r"api\.(github\.com|[^.]+\.ghe\.com)", name or "")
    return f"{scheme}://{found[1] if found else urlsplit(api).netloc}"
