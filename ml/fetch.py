"""A large file by http(s): resumed after a break, checked against its length and its SHA-256."""

import hashlib
import time
from pathlib import Path
from urllib.parse import urlsplit

import requests
from tqdm import tqdm

from ml.errors import PipelineError

ATTEMPTS = 5
TIMEOUT_S = (10, 60)
"""Seconds to connect, and between two pieces."""

_PIECE = 1 << 16  # what a break loses at most

PAUSE_S = 1.0
"""Before the second attempt; each further pause is twice as long."""


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def fetch(url: str, folder: Path, sha256: str = "") -> Path:
    """Download a file into a folder, and resume what an earlier call left there.

    Args:
        url: http(s).
        folder: made where it is missing.
        sha256: that the file must have, in hexadecimal; empty: not checked.

    Returns:
        The file's path. With a `sha256`, a file that is already there and has it is not downloaded again.

    Raises:
        PipelineError: it can't be had, or isn't what it should be.
    """
    folder.mkdir(parents=True, exist_ok=True)
    name = hashlib.sha256(url.encode()).hexdigest()[:16] + Path(urlsplit(url).path).suffix
    target, partial = folder / name, folder / f"{name}.part"
    if sha256 and target.is_file() and sha256_of(target) == sha256.lower():
        return target
    for attempt in range(ATTEMPTS):
        if attempt:
            time.sleep(PAUSE_S * 2 ** (attempt - 1))
        try:
            _attempt(url, partial)
            break
        except requests.RequestException as error:
            if attempt == ATTEMPTS - 1 or _is_final(error):
                raise PipelineError(f"{url}: {_reason(error)}") from error
    if sha256 and sha256_of(partial) != sha256.lower():
        partial.unlink()
        raise PipelineError(f"{url}: its SHA-256 is not the one in ingest.sha256")
    return partial.replace(target)


def _is_final(error: requests.RequestException) -> bool:
    """Whether another attempt can't help: the address is no address, or the server refuses it."""
    if error.response is None:
        return isinstance(error, ValueError)
    return error.response.status_code < 500 and error.response.status_code != 429


def _continues(response: requests.Response, have: int, tag: str) -> bool:
    """Whether a 206 is the rest of the file that is there, and not another part or another file's."""
    starts = response.headers.get("Content-Range", "").startswith(f"bytes {have}-")
    return starts and response.headers.get("ETag", tag) == tag


def _reason(error: requests.RequestException) -> str:
    if error.response is not None:
        return f"the server answers {error.response.status_code}"
    return str(error) or type(error).__name__


def _attempt(url: str, partial: Path) -> None:
    tag_file = partial.with_suffix(".etag")
    have = partial.stat().st_size if partial.is_file() else 0
    tag = tag_file.read_text() if tag_file.is_file() else ""
    headers = {"Accept-Encoding": "identity"}
    if have and tag:  # without a tag nothing says that the rest belongs to what is there
        headers |= {"Range": f"bytes={have}-", "If-Range": tag}
    with requests.get(url, headers=headers, stream=True, timeout=TIMEOUT_S) as response:
        resumed = response.status_code == 206
        if response.status_code == 416 or (resumed and not _continues(response, have, tag)):
            tag_file.unlink(missing_ok=True)  # so that the next attempt asks for all of it
            raise requests.ConnectionError("the file changed while it was downloaded")
        response.raise_for_status()
        if response.status_code not in (200, 206):
            raise requests.HTTPError(response=response)
        if not resumed:
            have = 0
            partial.unlink(missing_ok=True)  # first: old bytes must never stand beside the new tag
            etag = response.headers.get("ETag", "")
            tag_file.write_text("" if etag.startswith("W/") else etag)
        length = response.headers.get("Content-Length")
        total = have + int(length) if length and length.isdigit() else None
        with (
            partial.open("ab" if resumed else "wb") as file,
            tqdm(total=total, initial=have, unit="B", unit_scale=True, desc="download") as bar,
        ):
            for piece in response.iter_content(_PIECE):
                file.write(piece)
                have += len(piece)
                bar.update(len(piece))
        if total is not None and have != total:
            raise requests.ConnectionError(f"cut off after {have:,} of {total:,} bytes")
    tag_file.unlink(missing_ok=True)
