"""An asset to a file: with the token to the API alone, resumed after a break, checked."""

import hashlib
import re
from pathlib import Path
from urllib.parse import urljoin, urlsplit

import requests
import urllib3

from ml.github.answers import GitHubError, UnreachableError
from ml.github.client import GitHub
from ml.github.hosts import Bearer

_ATTEMPTS = 5
_PIECE = 1 << 16
_MAX_REDIRECTS = 5
_TIMEOUT_S = (20, 60)
_RAW = "application/octet-stream"


def download(github: GitHub, url: str, path: Path, size: int, sha256: str = "") -> str:
    """Write an asset to a file and return its SHA-256 in hexadecimal.

    The API redirects to a storage, by a signed URL that is valid for minutes: each attempt asks anew.

    Args:
        github: the client.
        url: of the asset in the API.
        path: where to.
        size: that it must have, in bytes.
        sha256: that it must have; empty: not checked.

    Raises:
        GitHubError: it can't be had, or isn't what it should be.
    """
    path.unlink(missing_ok=True)
    for attempt in range(1, _ATTEMPTS + 1):
        try:
            _attempt(github, url, path, size)
            break
        except (requests.RequestException, _BrokenError) as error:
            reason = str(error) if isinstance(error, _BrokenError) else type(error).__name__
            if attempt == _ATTEMPTS:  # the text of others may hold the signed URL
                raise UnreachableError(f"{path.name}: {reason}, {attempt} times") from None
            github.back_off(attempt - 1, f"download of {path.name} broke ({reason})")
    with path.open("rb") as file:
        found = hashlib.file_digest(file, "sha256").hexdigest()
    if sha256 and found != sha256:
        raise GitHubError(f"{path.name} has SHA-256 {found}, the API says {sha256}")
    return found


class _BrokenError(Exception):
    """Another attempt may help."""


def _read(response: requests.Response) -> bytes:
    """Return what has come, not waiting for a full piece: what came before a break is kept."""
    try:
        piece: bytes = response.raw.read1(_PIECE, decode_content=False)
    except (urllib3.exceptions.HTTPError, OSError) as error:
        raise _BrokenError(type(error).__name__) from error
    return piece


def _attempt(github: GitHub, url: str, path: Path, size: int) -> None:
    have = path.stat().st_size if path.exists() else 0
    headers = {"Accept-Encoding": "identity"} | ({"Range": f"bytes={have}-"} if have else {})
    response = github.send("GET", url, accept=_RAW, fine=(302,), headers=headers, stream=True)
    for _ in range(_MAX_REDIRECTS):
        if response.status_code not in (301, 302, 303, 307, 308):
            break
        target = urljoin(response.url, response.headers.get("Location", ""))
        secure = urlsplit(response.url).scheme == "https"
        response.close()
        if urlsplit(target).scheme not in (("https",) if secure else ("http", "https")):
            raise GitHubError(f"{path.name}: the download is redirected to something other than https://")
        response = requests.get(
            target, headers=headers, auth=Bearer(""), stream=True, allow_redirects=False, timeout=_TIMEOUT_S
        )
    with response:
        if response.status_code == 416:
            raise _BrokenError(f"no more than {have:,} bytes are there, the API says {size:,}")
        if response.status_code not in (200, 206):
            raise _BrokenError(f"the storage answers {response.status_code}")
        if response.status_code == 206 and not re.match(
            f"bytes {have}-", response.headers.get("Content-Range", "")
        ):
            path.unlink(missing_ok=True)
            raise _BrokenError("the storage sends another part than was asked for")
        with path.open("ab" if response.status_code == 206 else "wb") as file:
            have = file.tell()
            while piece := _read(response):
                have += len(piece)
                if have > size:
                    raise GitHubError(f"{path.name} is longer than the {size:,} bytes that the API says")
                file.write(piece)
    if have != size:
        raise _BrokenError(f"cut off after {have:,} of {size:,} bytes")
