"""Downloaded models on disk: verified before they are trusted, replaced as a whole, bounded in number.

The folder holds, for a model file and for the URL (by its hash) that it came from:

    <sha256>.pt     the file, named by its content
    <url>.json      which content the URL had last, with the server's ETag and date: what makes it current
    <url>.part      a download under way, or cut off; <url>.part.json says of which version
    <url>.lock      held while a process downloads
"""

import contextlib
import dataclasses
import hashlib
import logging
import os
import re
import time
import uuid
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from app.partial import Partial, Version, read_note, write_note

try:
    import fcntl
except ImportError:  # no such locks on this system: each process then downloads for itself
    fcntl = None  # type: ignore[assignment]

KEPT = 2
"""Model files that stay: the current one and the one before, which another process may be about to read."""

_MODEL = re.compile(r"[0-9a-f]{64}\.pt")
_NOTE = re.compile(r"[0-9a-f]{16}\.json")
_LEFTOVER = re.compile(r"[0-9a-f]{16,32}\.(part|part\.json|lock|(part\.)?json\.[0-9]+\.tmp)")
_ABANDONED_S = 24 * 3600  # no download or wait for one takes so long
_POLL_S = 0.1

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Entry:
    """A cached file that has the SHA-256 it had when it was stored."""

    path: Path
    sha256: str
    version: Version
    stored: object
    """When; differs even where the same content was stored again."""


class Cache:
    """The part of the folder that one URL uses. Methods that write raise OSError."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url_hash = hashlib.sha256(url.encode()).hexdigest()[:16]
        self._entry = folder / f"{self._url_hash}.json"

    def lookup(self) -> Entry | None:
        """Return what the URL had last, or None where there is nothing or it is damaged."""
        note = read_note(self._entry)
        sha256 = str(note.get("sha256", ""))
        if note.get("url_hash") != self._url_hash or (path := self.by_sha256(sha256)) is None:
            return None
        version = Version(note.get("etag"), note.get("last_modified"), note.get("size"))
        return Entry(path, sha256, version, note.get("stored"))

    def by_sha256(self, sha256: str) -> Path | None:
        """Return the file with this content, wherever it came from."""
        path = self._folder / f"{sha256}.pt"
        try:
            found = sha256_of(path)
        except OSError:
            return None
        if found != sha256:
            _log.warning("the cached model %s is damaged: it is downloaded anew", path)
            return None
        with contextlib.suppress(OSError):
            path.touch()  # the order in which files are removed; a read-only cache has none
        return path

    def partial(self, shared: bool) -> Partial:
        """Return where to download to: one that a later process resumes, or a private one."""
        return Partial(self._folder / (f"{self._url_hash}.part" if shared else f"{uuid.uuid4().hex}.part"))

    def store(self, partial: Partial, sha256: str, version: Version) -> Path:
        """Make a complete download the current file of the URL. Returns its path."""
        # Each rename shows the whole file or none. Nothing is synced to disk: after a power cut the
        # SHA-256 tells what was lost.
        path = partial.path.replace(self._folder / f"{sha256}.pt")
        write_note(
            self._entry,
            dataclasses.asdict(version)
            | {"url_hash": self._url_hash, "sha256": sha256, "size": path.stat().st_size}
            | {"stored": time.time_ns()},
        )
        partial.discard()
        self._prune(path)
        return path

    def forget(self) -> None:
        """Have the next start download anew, as far as the file system lets."""
        with contextlib.suppress(OSError):
            self._entry.unlink(missing_ok=True)

    def _prune(self, current: Path) -> None:
        """Remove what is of no use any more; nothing in the folder that isn't the cache's own."""
        with contextlib.suppress(OSError):
            paths = list(self._folder.iterdir())
            others = [path for path in paths if _MODEL.fullmatch(path.name) and path != current]
            for path in sorted(others, key=lambda path: path.stat().st_mtime, reverse=True)[KEPT - 1 :]:
                path.unlink(missing_ok=True)
            for path in paths:
                if _NOTE.fullmatch(path.name):
                    useless = not (self._folder / f"{read_note(path).get('sha256')}.pt").exists()
                else:
                    useless = _LEFTOVER.fullmatch(path.name) is not None and _is_abandoned(path)
                if useless:
                    path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self, timeout_s: float, waiting: Callable[[], None]) -> Iterator["Lock"]:
        """Let one process at a time download from this URL; where that can't be had, go on without.

        The lock is the kernel's, so it ends with the process that holds it, however that ends.

        Args:
            timeout_s: how long to wait for another process, in seconds.
            waiting: called while it is waited for.
        """
        lock = Lock()
        with contextlib.ExitStack() as stack:
            try:
                self._folder.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(self._entry.with_suffix(".lock").open("a"))
                deadline = time.monotonic() + timeout_s
                while fcntl is not None and not lock.held and time.monotonic() < deadline:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        lock.held = True
                        os.utime(file.fileno())
                    except BlockingIOError:
                        lock.waited = True
                        waiting()
                        time.sleep(_POLL_S)
            except OSError:  # a folder that can't be written, or a file system without locks
                pass
            yield lock


@dataclass
class Lock:
    """What came of asking for the lock."""

    held: bool = False
    waited: bool = False


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256 in hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _is_abandoned(path: Path) -> bool:
    in_use = path.suffix == ".lock" and path.with_suffix(".json").exists()
    return not in_use and time.time() - path.stat().st_mtime > _ABANDONED_S
