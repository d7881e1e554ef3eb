"""What GitHub's answers mean: how long to wait, and which error of one line stands for a refusal."""

import re
import time
from urllib.parse import urlsplit

import requests

from ml.errors import PipelineError


class GitHubError(PipelineError):
    """GitHub refuses, or answers something it shouldn't."""


class NotFoundError(GitHubError):
    """404: it isn't there, or the token may not see it or do that."""


class ExistsError(GitHubError):
    """422 already_exists: a release of this tag is published, or an asset of this name is there."""


class UnreachableError(GitHubError):
    """No answer, or 5xx, after all attempts."""


class UnsureError(GitHubError):
    """A request had no answer, or 5xx, and may have been carried out or not."""


def host(response: requests.Response) -> str:
    """Return which host answered."""
    return urlsplit(response.url).hostname or "the server"


def seconds(response: requests.Response, header: str) -> float:
    """Return the number that a header holds, 0 where there is none."""
    value = response.headers.get(header, "")
    return float(value) if re.fullmatch(r"[0-9]{1,12}", value) else 0.0


def rate_limit_s(response: requests.Response) -> float | None:
    """Return for how long GitHub wants to be left alone, 0 where it doesn't say; None: no rate limit.

    As "Rate limits for the REST API" documents it, section "Exceeding the rate limit".
    """
    if response.status_code not in (403, 429):
        return None
    if pause := seconds(response, "Retry-After"):
        return pause
    if response.headers.get("X-RateLimit-Remaining") == "0":
        return max(1.0, seconds(response, "X-RateLimit-Reset") - time.time() + 1)
    limited = response.status_code == 429 or "rate limit" in said(response).lower()
    return 0.0 if limited else None


def refusal(method: str, repository: str, response: requests.Response) -> GitHubError:
    """Return the error that stands for a status of 3xx or 4xx."""
    status, text = response.status_code, said(response)
    where = f"{repository} at {host(response)}"
    match status:
        case 301 | 302 | 307 | 308:
            return GitHubError(f"{where}: the repository has moved; set GITHUB_REPOSITORY to its new name")
        case 401:
            return GitHubError(f"{where}: the token in GITHUB_TOKEN is not accepted, or has expired (401)")
        case 403:
            need = "contents: read" if method == "GET" else "contents: write"
            return GitHubError(f"{where}: the token lacks the permission {need} (403: {text})")
        case 404 if method == "GET":
            return NotFoundError(f"{where}: not found, or the token may not see it (404)")
        case 404:
            need = "contents: write, and workflows: write for a commit that changes .github/workflows"
            return NotFoundError(f"{where}: not found, or the token lacks {need} (404)")
        case 422 if "already_exists" in text:
            return ExistsError(f"{where}: {text} (422)")
    return GitHubError(f"{where}: {method} is refused ({status}: {text})")


def said(response: requests.Response) -> str:
    """Return what the body of an error says, as one short line."""
    try:
        body = response.json()
        errors = body.get("errors") or []
        found = [_error(error) for error in errors]
        text = ": ".join(part for part in (str(body.get("message", "")), *found) if part)
    except (ValueError, AttributeError, TypeError, requests.RequestException):
        text = response.reason or ""
    text = re.sub(r"[^ -~]+", " ", text)[:300]
    sent = str(response.request.headers.get("Authorization", "")).removeprefix("Bearer ")
    return text.replace(sent, "***") if sent else text


def _error(error: object) -> str:
    if not isinstance(error, dict):
        return str(error)
    return " ".join(str(error[key]) for key in ("resource", "field", "code", "message") if key in error)
