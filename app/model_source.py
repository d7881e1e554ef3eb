"""MODEL_URL to a verified local `model.pt`."""

import logging
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from app.model_cache import Cache, Entry, sha256_of
from app.partial import Partial, Version
from app.settings import EMBEDDED, Settings

if TYPE_CHECKING:
    from app.download import Policy

_LOCK_S = 3600.0  # for another process's download, which ends by then one way or the other

_log = logging.getLogger(__name__)


class ModelSourceError(RuntimeError):
    """No model file to be had; the message is one line and holds no secret."""


@dataclass(frozen=True)
class ModelFile:
    """A local model file.

    Attributes:
        path: where it lies.
        download_seconds: how long its download took, or None where there was none.
        stale: whether it is an earlier start's copy, used because the server can't be had.
    """

    path: Path
    download_seconds: float | None = None
    stale: bool = False


def fetch(
    settings: Settings,
    report: Callable[[str], None] = lambda _: None,
    policy: "Policy | None" = None,
    failed: Callable[[], None] = lambda: None,
) -> ModelFile:
    """Return the model file that the settings name, downloaded where they name a server.

    Args:
        settings: MODEL_URL and what belongs to it.
        report: is told, for people, how far a download is.
        policy: how often and how long a download is tried; None: long where there is no copy of an earlier
            download, and quickly where there is.
        failed: is called for each attempt at a download that failed.

    Raises:
        ModelSourceError: it can't be had, or isn't the one that MODEL_SHA256 pins.
    """
    if settings.model_url is None:
        return ModelFile(_local(EMBEDDED, settings.model_sha256))
    parts = urlsplit(settings.model_url)
    if parts.scheme == "file":
        return ModelFile(_local(Path(url2pathname(parts.path)), settings.model_sha256))
    return _Remote(settings.model_url, settings, report, policy, failed).fetch()


def forget(settings: Settings) -> None:
    """Have the next start download anew what turned out to be no model."""
    if settings.model_url and urlsplit(settings.model_url).scheme != "file":
        _cache(settings, settings.model_url).forget()


def redact(url: str) -> str:
    """Return the URL without what may be secret: user info, query and fragment."""
    parts = urlsplit(url)
    return f"{parts.scheme}://{parts.netloc.rpartition('@')[2]}{parts.path}"


def _cache(settings: Settings, url: str) -> Cache:
    parts = urlsplit(url)
    return Cache(settings.model_cache_dir, parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())


def _local(path: Path, pin: str | None) -> Path:
    try:
        if pin is None:
            path.open("rb").close()
        elif (found := sha256_of(path)) != pin:
            raise ModelSourceError(f"{path} has SHA-256 {found}, but MODEL_SHA256 pins {pin}")
    except OSError as error:
        raise ModelSourceError(f"can't read the model file {path}: {error.strerror}") from error
    return path


class _Remote:
    """A model on a server, with its copies in the cache."""

    def __init__(
        self,
        url: str,
        settings: Settings,
        report: Callable[[str], None],
        policy: "Policy | None",
        failed: Callable[[], None],
    ) -> None:
        self._url = url
        self._name = redact(url)
        self._settings = settings
        self._report = report
        self._policy = policy
        self._failed = failed
        self._cache = _cache(settings, url)

    def fetch(self) -> ModelFile:
        if pinned := self._pinned():
            return pinned
        cached = self._cached()
        with self._cache.lock(_LOCK_S, self._waiting) as lock:
            if lock.waited:  # the other process has just stored what this one would ask for
                if pinned := self._pinned():
                    return pinned
                before, cached = cached, self._cached()
                if cached is not None and cached != before:
                    return ModelFile(cached.path)
            partial = self._cache.partial(lock.held)
            try:
                return self._update(cached, partial)
            finally:
                if not (lock.held and partial.resumable()):  # of no use to a later start
                    partial.discard()

    def _pinned(self) -> ModelFile | None:
        pin = self._settings.model_sha256
        path = self._cache.by_sha256(pin) if pin else None
        return ModelFile(path) if path else None

    def _cached(self) -> Entry | None:
        return None if self._settings.model_sha256 else self._cache.lookup()

    def _waiting(self) -> None:
        self._report("waiting for another process that downloads the model")

    def _update(self, cached: Entry | None, partial: Partial) -> ModelFile:
        """Download the model unless the cached one is current; make do with that where it can't be had."""
        from app.http_client import (
            DownloadError,
            UnreachableError,
        )  # only here: imports what a start can save

        problem: Exception
        try:
            return self._download(cached, partial)
        except UnreachableError as error:  # what came so far stays: the next start goes on from there
            failure, problem = f"can't download {self._name}: {error}", error
        except DownloadError as error:
            partial.discard()
            raise ModelSourceError(f"can't download {self._name}: {error}") from error
        except OSError as error:
            partial.discard()
            where = f"{self._settings.model_cache_dir} (MODEL_CACHE_DIR)"
            failure, problem = f"can't write the model to {where}: {error.strerror}", error
        except ModelSourceError:
            partial.discard()
            raise
        if cached is None:
            raise ModelSourceError(failure) from problem
        _log.warning(
            "%s; going on with the copy of it from an earlier start",
            failure,
            extra={"fields": {"sha256": cached.sha256}},
        )
        return ModelFile(cached.path, stale=True)

    def _download(self, cached: Entry | None, partial: Partial) -> ModelFile:
        from app.download import QUICK, Download, Policy, published_sha256
        from app.http_client import Client

        started = time.perf_counter()
        policy = self._policy or (QUICK if cached else Policy())
        with Client(self._url, self._settings.model_token) as client:
            download = Download(client, policy, self._report, self._failed)
            # A cache on the way may be stale, and a release may be replaced between the two requests.
            for fresh in (False, True):
                version = download.run(partial, cached.version if cached and not fresh else None, fresh)
                if version is None and cached is not None:
                    partial.discard()
                    return ModelFile(cached.path)
                self._report("verifying the model")
                found, wrong = sha256_of(partial.path), None
                if pin := self._settings.model_sha256:
                    expected, by = pin, "MODEL_SHA256 pins"
                else:
                    expected, by = published_sha256(client) or found, f"{self._name}.sha256 says"
                if found != expected:
                    wrong = f"{self._name} has SHA-256 {found}, but {by} {expected}"
                elif not zipfile.is_zipfile(partial.path):  # nor cached, to be served again by its ETag
                    wrong = f"{self._name} can't be used: not a ZIP, so no model file, or cut short"
                if wrong is None:
                    path = self._cache.store(partial, found, version or Version())
                    seconds = time.perf_counter() - started
                    _log.info("model downloaded from %s in %.1f s", self._name, seconds)
                    return ModelFile(path, seconds)
                partial.discard()
            raise ModelSourceError(wrong)
