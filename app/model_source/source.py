"""Turns MODEL_URL into a verified local `model.pt`."""

import dataclasses
import logging
import time
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import url2pathname

from app.model_source.cache import Cache, CachedModel
from app.model_source.signatures import Signatures, check_file
from app.settings import EMBEDDED, Settings
from ml.model.host import largest_model
from ml.model.partial import Partial, Version, sha256_of
from ml.model.signature import SignatureError
from ml.model.urls import public

if TYPE_CHECKING:
    from ml.model.download import Policy

_log = logging.getLogger(__name__)


class ModelSourceError(RuntimeError):
    """There is no usable model; the message is one line for the operator and contains no secret."""


@dataclass(frozen=True)
class ModelFile:
    """A local model file.

    Attributes:
        path: of the file.
        download_seconds: how long its download took; None: there was no download.
        stale: whether it is the copy from an earlier start, used because the download failed.
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
    """Return the model file of the settings, after downloading it if MODEL_URL is an HTTP URL.

    Args:
        settings: MODEL_URL and the settings that belong to it.
        report: called with the progress of a download, for people.
        policy: how often and how long a download is tried; None: quickly if there is a copy from an earlier
            start, else for long.
        failed: called for each failed attempt to download.

    Raises:
        ModelSourceError: there is no such file, its SHA-256 isn't MODEL_SHA256, or it has no valid signature
            although MODEL_PUBLIC_KEY is set. The embedded model needs none.
    """
    if settings.model_url is None:
        return ModelFile(_local(EMBEDDED, settings.model_sha256))
    parts = urlsplit(settings.model_url)
    if parts.scheme == "file":
        path = _local(Path(url2pathname(parts.path)), settings.model_sha256)
        try:
            check_file(path, settings.model_public_key)
        except SignatureError as error:
            raise ModelSourceError(f"{path} can't be used: {error}") from error
        return ModelFile(path)
    cache = _cache(settings, settings.model_url)
    return _Remote(settings.model_url, settings, report, policy, failed, cache).fetch()


def forget(settings: Settings) -> None:
    """Make the next start download again, because the file is not a usable model."""
    if settings.model_url and urlsplit(settings.model_url).scheme != "file":
        _cache(settings, settings.model_url).forget()


def _cache(settings: Settings, url: str) -> Cache:
    parts = urlsplit(url)
    return Cache(settings.model_cache_dir, parts._replace(netloc=parts.netloc.rpartition("@")[2]).geturl())


def _local(path: Path, pin: str | None) -> Path:
    try:
        if pin is None:
            path.open("rb").close()
        elif (sha256 := sha256_of(path)) != pin:
            raise ModelSourceError(f"{path} has SHA-256 {sha256}, but MODEL_SHA256 is {pin}")
    except (OSError, ValueError) as error:  # a NUL in the path is a ValueError
        reason = getattr(error, "strerror", None) or error
        raise ModelSourceError(f"can't read the model file {path}: {reason}") from error
    return path


@dataclass(frozen=True)
class _Remote:
    """A model on a server, with its copies in the cache; see `fetch` for the attributes."""

    url: str
    settings: Settings
    report: Callable[[str], None]
    policy: "Policy | None"
    failed: Callable[[], None]
    cache: Cache

    def fetch(self) -> ModelFile:
        file = self._fetch()
        if file.download_seconds is None:  # from the cache, where a file's name is its SHA-256
            try:
                self._check_signature(file.path.stem)
            except (SignatureError, OSError, RuntimeError) as error:  # RuntimeError: it can't be downloaded
                copy = f"the cached copy of {public(self.url)}"
                raise ModelSourceError(f"{copy} can't be used: {error}") from error
        return file

    def _fetch(self) -> ModelFile:
        if pinned := self._pinned():
            return pinned
        cached = self._cached()
        with self.cache.lock(self._waiting) as lock:
            if lock.waited:  # the other process has just stored the current model
                if pinned := self._pinned():
                    return pinned
                before, cached = cached, self._cached()
                if cached is not None and cached != before:
                    return ModelFile(cached.path)
            partial = self.cache.partial(lock.acquired)
            try:
                return self._update(cached, partial)
            finally:
                if not (lock.acquired and partial.resumable()):  # a later start can't use it
                    partial.discard()

    def _pinned(self) -> ModelFile | None:
        pin = self.settings.model_sha256
        path = self.cache.by_sha256(pin) if pin else None
        return ModelFile(path) if path else None

    def _cached(self) -> CachedModel | None:
        return None if self.settings.model_sha256 else self.cache.lookup()

    def _check_signature(self, sha256: str, fresh: bool = False) -> None:
        if keys := self.settings.model_public_key:
            from ml.model.download import QUICK

            token = self.settings.model_token
            signatures = Signatures(keys, self.url, token, self.cache, self.report, self.failed)
            signatures.check(sha256, self.policy or QUICK, fresh)

    def _waiting(self) -> None:
        self.report("waiting for another process to download the model")

    def _update(self, cached: CachedModel | None, partial: Partial) -> ModelFile:
        """Download the model unless the cached one is current; use the cached one if that fails."""
        from ml.model.http import DownloadError, UnreachableError  # takes time and memory: only if needed

        try:
            return self._download(cached, partial)
        except UnreachableError as error:  # keep what was received: the next start resumes from there
            failure = ModelSourceError(f"can't download {public(self.url)}: {error}")
        except DownloadError as error:
            partial.discard()
            raise ModelSourceError(f"can't download {public(self.url)}: {error}") from error
        except OSError as error:
            partial.discard()
            where = f"{self.settings.model_cache_dir} (MODEL_CACHE_DIR)"
            failure = ModelSourceError(f"can't write the model to {where}: {error.strerror}")
        if cached is None:
            raise failure
        fields = {"sha256": cached.sha256}
        _log.warning("%s; using the copy from an earlier start", failure, extra={"fields": fields})
        return ModelFile(cached.path, stale=True)

    def _download(self, cached: CachedModel | None, partial: Partial) -> ModelFile:
        from ml.model.download import QUICK, Download, Policy, published_sha256
        from ml.model.http import Client, MissingError, UnreachableError

        started, name = time.perf_counter(), public(self.url)
        policy = self.policy or (QUICK if cached else Policy())
        # A larger file could not be loaded, and on some hosts files are in memory too.
        policy = dataclasses.replace(policy, max_bytes=int(min(policy.max_bytes, largest_model())))
        with Client(self.url, self.settings.model_token) as client:
            download = Download(client, policy, self.report, self.failed)
            # A cache in between may be stale, and a release may be replaced between the requests.
            for fresh in (False, True):
                version = download.run(partial, cached.version if cached and not fresh else None, fresh)
                if version is None and cached is not None:
                    partial.discard()
                    return ModelFile(cached.path)
                self.report("verifying the model")
                sha256 = sha256_of(partial.path)
                if pin := self.settings.model_sha256:
                    expected, source = pin, "MODEL_SHA256 is"
                else:
                    expected, source = published_sha256(client) or sha256, f"{name}.sha256 says"
                if sha256 == expected and zipfile.is_zipfile(partial.path):
                    try:
                        self._check_signature(sha256, fresh)
                    except SignatureError as error:
                        partial.discard()
                        if fresh:
                            raise ModelSourceError(f"{name} can't be used: {error}") from error
                        continue
                    except MissingError as error:  # it may be uploaded after the model
                        partial.discard()
                        raise UnreachableError(str(error)) from error
                    path = self.cache.store(partial, sha256, version or Version())
                    seconds = time.perf_counter() - started
                    _log.info("model downloaded from %s in %.1f s", name, seconds)
                    return ModelFile(path, seconds)
                partial.discard()
        if sha256 != expected:
            raise ModelSourceError(f"{name} has SHA-256 {sha256}, but {source} {expected}")
        raise ModelSourceError(f"{name} can't be used: it is not a ZIP file, or cut short")
