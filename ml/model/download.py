"""Download of one file by HTTP: retried, resumed, and bounded in time and size whatever the server does."""

import logging
import random
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import requests

from ml.model.body import ResponseBody
from ml.model.http import Client, DownloadError, Timeouts, UnreachableError, refusal
from ml.model.partial import Partial, Version
from ml.model.urls import beside

_DIGEST_FILE_ATTEMPTS = 3
_DIGEST_FILE_PAUSE_S = 0.3
_DIGEST_FILE_S = 10.0  # most models have no such file, so it must not delay a start for long
_DIGEST_FILE_BYTES = 128  # enough for the digest in sha256sum's format
_MB = 1_000_000

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Policy:
    """Limits of a download; times in seconds."""

    attempts: int = 5
    backoff_s: float = 0.5
    """Pause before the second attempt; it doubles for each further one. A random part of it, up to a half, is
    left out, so that services do not retry at the same time."""
    backoff_max_s: float = 30.0
    retry_after_max_s: float = 60.0
    """Longest pause that the server may ask for; a longer one is cut to this."""
    slow_s: float = 30.0
    slow_bytes: int = 30_000
    """Fewer bytes than this within `slow_s` count as a stall."""
    total_s: float = 3600.0
    """All attempts together, including pauses."""
    max_bytes: int = 2 << 30
    """A larger file is rejected, so that it cannot fill the disk."""
    timeouts: Timeouts = field(default_factory=Timeouts)


QUICK = Policy(
    attempts=3, retry_after_max_s=5.0, slow_s=10.0, total_s=600.0, timeouts=Timeouts(5.0, 10.0, 10.0)
)
"""For a service that can also start without the file."""


@dataclass
class Download:
    """The download of one file; the time in `policy.total_s` starts when the object is made.

    Attributes:
        client: requests the file.
        policy: limits.
        report: called with the progress, a line for people.
        failed: called after each attempt that failed.
        name: of the file, in the progress.
    """

    client: Client
    policy: Policy
    report: Callable[[str], None]
    failed: Callable[[], None] = lambda: None
    name: str = "the model"

    def __post_init__(self) -> None:
        """Start the clock."""
        self._deadline = time.monotonic() + self.policy.total_s

    def run(self, partial: Partial, known: Version | None = None, fresh: bool = False) -> Version | None:
        """Download the file; resume what an earlier attempt or process left.

        Args:
            partial: where the bytes go.
            known: a version that is already here and need not be sent again.
            fresh: caches between here and the server must ask the server.

        Returns:
            The version that is now complete, or None if the server still has the known one.

        Raises:
            UnreachableError: no attempt succeeded.
            DownloadError: another attempt would not help.
            OSError: the file can't be written.
        """
        # GitHub's API sends the asset itself only for this Accept header.
        headers = {"Accept": "application/octet-stream", "Accept-Encoding": "identity"}
        if known is not None:
            # Not If-Modified-Since: servers answer 304 too if an older file has been put back.
            headers |= {"If-None-Match": known.etag} if known.etag else {}
        if fresh:
            headers["Cache-Control"] = "no-cache"
        self.report(f"downloading {self.name}")
        attempt = 0
        while True:
            attempt += 1
            try:
                return self._attempt(partial, headers)
            except DownloadError as error:
                self.failed()
                if not isinstance(error, UnreachableError):
                    raise
                pause = self._pause(attempt, error.retry_after_s)
                if attempt >= self.policy.attempts or time.monotonic() + pause > self._deadline:
                    raise
                _log.info("download of %s: %s; trying again in %.1f s", self.name, error, pause)
                self.report(f"downloading {self.name}: {error}; trying again")
                time.sleep(pause)

    def _pause(self, attempt: int, retry_after_s: float) -> float:
        backoff = min(self.policy.backoff_s * 2.0 ** (attempt - 1), self.policy.backoff_max_s)
        backoff *= random.uniform(0.5, 1.0)  # noqa: S311
        return max(backoff, min(retry_after_s, self.policy.retry_after_max_s))

    def _attempt(self, partial: Partial, headers: dict[str, str]) -> Version | None:
        have, version = partial.resumable() or (0, Version())
        conditional = "If-None-Match" in headers
        if have:
            headers = headers | {"Range": f"bytes={have}-", "If-Range": version.range_condition or ""}
        with self.client.open(self.client.url, headers, self.policy.timeouts) as response:
            status = response.status_code
            if status == 304 and conditional:
                return None
            if status == 416 or (status == 206 and not _continues(response, have, version)):
                partial.discard()  # so that the next attempt requests the whole file
                raise UnreachableError("the file changed while it was downloaded")
            if status not in (200, 206):
                raise refusal(response)
            if response.headers.get("Content-Encoding", "identity") != "identity":
                raise DownloadError("the server sends it compressed although that was not requested")
            if status == 200:
                have, version = 0, _version(response)
                partial.start(version)
            self._receive(response, partial, have, version.size)
        return version

    def _receive(self, response: requests.Response, partial: Partial, have: int, total: int | None) -> None:
        policy = self.policy
        window, received = time.monotonic(), 0
        read_s = min(policy.timeouts.read_s, policy.slow_s)
        with ResponseBody(response) as body, partial.path.open("ab") as file:
            self.report(f"downloading {self.name}: {_progress(have, total)}")
            while True:
                try:
                    piece = body.read(min(time.monotonic() + read_s, self._deadline))
                except UnreachableError as error:
                    if time.monotonic() > self._deadline:
                        raise self._late() from None
                    raise UnreachableError(f"{error}, after {_bytes(have, total)}") from None
                if not piece:
                    break
                have += len(piece)
                received += len(piece)
                if max(have, total or 0) > policy.max_bytes:
                    raise DownloadError(f"it is larger than {policy.max_bytes:,} bytes")
                file.write(piece)
                self.report(f"downloading {self.name}: {_progress(have, total)}")
                now = time.monotonic()
                if now > self._deadline:
                    raise self._late()
                if now - window > policy.slow_s:
                    if received < policy.slow_bytes:
                        raise UnreachableError("the connection stalled")
                    window, received = now, 0
        if total is not None and have != total:
            raise UnreachableError(f"the connection broke after {_bytes(have, total)}")

    def _late(self) -> UnreachableError:
        return UnreachableError(f"not complete after {self.policy.total_s:.0f} s")


def published_sha256(client: Client) -> str | None:
    """Return the digest in the file `URL.sha256` (sha256sum's format), or None if there is no such file.

    Storage services answer 403 for a file that does not exist, so that counts as no file too.

    Raises:
        UnreachableError: no attempt shows whether there is a file, or reads all of it.
        DownloadError: there is a file, but no digest in it.
    """
    url = beside(client.url, ".sha256")
    deadline = time.monotonic() + _DIGEST_FILE_S
    timeouts = Timeouts(_DIGEST_FILE_S, _DIGEST_FILE_S, _DIGEST_FILE_S)
    for attempt in range(1, _DIGEST_FILE_ATTEMPTS + 1):
        try:
            text = _digest_file(client, url, timeouts, deadline)
            break
        except UnreachableError as error:
            pause_s = max(_DIGEST_FILE_PAUSE_S * attempt, error.retry_after_s)
            if attempt == _DIGEST_FILE_ATTEMPTS or time.monotonic() + pause_s > deadline:
                raise UnreachableError(f"its .sha256 file cannot be read: {error}") from None
            time.sleep(pause_s)
    if text is None:
        return None
    # sha256sum writes "\" first if it had to quote the name.
    digest = re.match(rb"\\?([0-9a-fA-F]{64})(?![0-9a-fA-F])", text)
    if digest is None:
        raise DownloadError("its .sha256 file holds no SHA-256; correct or remove it, or set MODEL_SHA256")
    return digest[1].decode().lower()


def _digest_file(client: Client, url: str, timeouts: Timeouts, deadline: float) -> bytes | None:
    """Return the beginning of the file, or None if there is none."""
    with client.open(url, {"Accept-Encoding": "identity"}, timeouts) as response:
        if response.status_code != 200:
            error = refusal(response)
            if isinstance(error, UnreachableError):
                raise error
            if 400 <= response.status_code < 500 and response.status_code != 401:
                return None
            raise DownloadError(f"its .sha256 file cannot be read: {error}")
        text, announced = b"", _version(response).size or 0
        with ResponseBody(response) as body:
            while len(text) < _DIGEST_FILE_BYTES and (piece := body.read(deadline)):
                text += piece
                if time.monotonic() > deadline:
                    raise UnreachableError("it arrives too slowly")
        if len(text) < min(announced, _DIGEST_FILE_BYTES):
            raise UnreachableError("the connection broke")
        return text


def _progress(have: int, total: int | None) -> str:
    if not total:
        return f"{have / _MB:.1f} MB"
    return f"{have / _MB:.1f} of {total / _MB:.1f} MB ({100 * have // total} %)"


def _bytes(have: int, total: int | None) -> str:
    return f"{have:,} of {total:,} bytes" if total else f"{have:,} bytes"


def _version(response: requests.Response) -> Version:
    length = response.headers.get("Content-Length", "")
    size = int(length) if re.fullmatch(r"[0-9]{1,18}", length) else None
    return Version(response.headers.get("ETag"), response.headers.get("Last-Modified"), size)


def _continues(response: requests.Response, have: int, version: Version) -> bool:
    """Whether a 206 holds exactly the missing rest of the same version of the file."""
    sent = re.fullmatch(r"bytes ([0-9]+)-([0-9]+)/([0-9]+)", response.headers.get("Content-Range", ""))
    if not have or sent is None:
        return False
    first, last, total = (int(number) for number in sent.groups())
    same = response.headers.get("ETag", version.etag) == version.etag
    return same and first == have and last == total - 1 and total == (version.size or total)
