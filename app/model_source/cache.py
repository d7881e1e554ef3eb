"""Downloaded models on disk: verified before use, replaced as a whole, limited in number.

The folder contains model files, and notes on the URLs that they came from (named by a hash of the URL):

    <sha256>.pt     a model file, named by its content
    <sha256>.sig    its signature, if MODEL_PUBLIC_KEY requires one
    <url>.json      which content the URL had last, with the server's ETag and date
    <url>.part      a download in progress, or an interrupted one; <url>.part.json says of which version
    <url>.lock      locked while a process downloads
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
from typing import NamedTuple

from ml.model.partial import Partial, Version, read_note, sha256_of, write_note

try:
    import fcntl
except ImportError:  # Windows has no such locks: each process then downloads for itself
    fcntl = None  # type: ignore[assignment]

_MODEL = re.compile(r"[0-9a-f]{64}\.pt")
_SIGNATURE = re.compile(r"[0-9a-f]{64}\.sig")
_NOTE = re.compile(r"[0-9a-f]{16}\.json")
_LEFTOVER = re.compile(r"[0-9a-f]{16,32}\.(part|part\.json|lock|(part\.)?json\.[0-9]+\.tmp)")
_ABANDONED_S = 24 * 3600  # no download, and no wait for one, takes that long
_LOCK_S = 3600.0  # how long to wait for another process's download, which has ended by then
_POLL_S = 0.1

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class CachedModel:
    """A model file in the cache, whose SHA-256 is still that with which it was stored."""

    path: Path
    sha256: str
    version: Version
    stored: object
    """When it was stored; differs even if the same content is stored again."""


class Cache:
    """The part of the folder that belongs to one URL. Methods that write raise OSError."""

    def __init__(self, folder: Path, url: str) -> None:
        self._folder = folder
        self._url_hash = hashlib.sha256(url.encode()).hexdigest()[:16]
        self._note = folder / f"{self._url_hash}.json"

    def lookup(self) -> CachedModel | None:
        """Return the model that the URL had last; None: there is none, or it is damaged."""
        note = read_note(self._note)
        sha256 = str(note.get("sha256", ""))
        if (path := self.by_sha256(sha256)) is None:
            return None
        version = Version(note.get("etag"), note.get("last_modified"), note.get("size"))
        return CachedModel(path, sha256, version, note.get("stored"))

    def by_sha256(self, sha256: str) -> Path | None:
        """Return the file with this content, whichever URL it came from; None: there is none."""
        path = self._folder / f"{sha256}.pt"
        try:
            actual = sha256_of(path)
        except OSError:
            return None
        if actual != sha256:
            _log.warning("the cached model %s is damaged; downloading it again", path)
            return None
        with contextlib.suppress(OSError):
            path.touch()  # decides which files are removed first; not possible in a read-only cache
        return path

    def signature(self, sha256: str) -> Path:
        """Return where the signature of the file with this content is, or belongs."""
        return self._folder / f"{sha256}.sig"

    def partial(self, shared: bool) -> Partial:
        """Return where to download to: a file that a later process can resume, or a private one."""
        return Partial(self._folder / (f"{self._url_hash}.part" if shared else f"{uuid.uuid4().hex}.part"))

    def store(self, partial: Partial, sha256: str, version: Version) -> Path:
        """Make a complete download the current file of the URL; return its path."""
        # A rename shows the whole file or none. Nothing is synced to disk: after a power cut, the SHA-256
        # shows what was lost.
        path = partial.path.replace(self._folder / f"{sha256}.pt")
        note = {"sha256": sha256, "size": path.stat().st_size, "stored": time.time_ns()}
        write_note(self._note, dataclasses.asdict(version) | note)
        self._prune(path)
        return path

    def forget(self) -> None:
        """Make the next start download again, if the file system permits."""
        with contextlib.suppress(OSError):
            self._note.unlink(missing_ok=True)

    def _prune(self, current: Path) -> None:
        """Remove obsolete files of the cache; other files in the folder stay."""
        with contextlib.suppress(OSError):
            paths = list(self._folder.iterdir())
            others = [path for path in paths if _MODEL.fullmatch(path.name) and path != current]
            # Another process may still read the previous model.
            for path in sorted(others, key=lambda path: path.stat().st_mtime)[:-1]:
                path.unlink(missing_ok=True)
            for path in paths:
                if _NOTE.fullmatch(path.name):
                    obsolete = not (self._folder / f"{read_note(path).get('sha256')}.pt").exists()
                elif _SIGNATURE.fullmatch(path.name):
                    obsolete = not path.with_suffix(".pt").exists()
                else:
                    obsolete = _LEFTOVER.fullmatch(path.name) is not None and _is_abandoned(path)
                if obsolete:
                    path.unlink(missing_ok=True)

    @contextlib.contextmanager
    def lock(self, waiting: Callable[[], None]) -> Iterator["Lock"]:
        """Let one process at a time download from this URL; continue without the lock if there can't be one.

        It is a lock of the kernel, so it ends with its process, however that ends. `waiting` is called
        repeatedly while another process has it.
        """
        acquired = waited = False
        with contextlib.ExitStack() as stack:
            with contextlib.suppress(OSError):  # the folder isn't writable, or the file system has no locks
                self._folder.mkdir(parents=True, exist_ok=True)
                file = stack.enter_context(self._note.with_suffix(".lock").open("a"))
                deadline = time.monotonic() + _LOCK_S
                while fcntl is not None and not acquired and time.monotonic() < deadline:
                    try:
                        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
                        acquired = True
                        os.utime(file.fileno())
                    except BlockingIOError:
                        waited = True
                        waiting()
                        time.sleep(_POLL_S)
            yield Lock(acquired, waited)


class Lock(NamedTuple):
    """Whether the lock was acquired, and whether that took a wait for another process."""

    acquired: bool
    waited: bool


def _is_abandoned(path: Path) -> bool:
    in_use = path.suffix == ".lock" and path.with_suffix(".json").exists()
    return not in_use and time.time() - path.stat().st_mtime > _ABANDONED_S
