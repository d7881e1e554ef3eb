"""The signature that a model needs if MODEL_PUBLIC_KEY is set; checked at each start."""

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

from app.model_source.cache import Cache
from ml.model import signature
from ml.model.partial import sha256_of
from ml.model.signature import SignatureError

if TYPE_CHECKING:
    from ml.model.download import Policy

_UNSIGNED = "its signature was not made with a key of MODEL_PUBLIC_KEY"


@dataclass(frozen=True)
class Signatures:
    """The signatures of the models at one URL.

    Attributes:
        keys: the public keys; none: no signature is needed.
        url: of the model; that of the signature has `.sig` after its path.
        token: Bearer token for the URL's host.
        cache: where signatures are kept.
        report: called with the progress of the download, for people.
        failed: called for each failed attempt to download.
    """

    keys: tuple[bytes, ...]
    url: str
    token: str | None
    cache: Cache
    report: Callable[[str], None]
    failed: Callable[[], None]

    def check(self, sha256: str, policy: "Policy", fresh: bool = False) -> None:
        """Check the signature of a file by its SHA-256; download it unless a valid one is in the cache.

        Args:
            sha256: of the file, in hexadecimal.
            policy: how often and how long the download is tried.
            fresh: caches between here and the server must ask the server.

        Raises:
            SignatureError: it is not valid.
            DownloadError: it can't be downloaded; UnreachableError if another attempt may succeed,
                MissingError if there is none.
            OSError: it can't be written to the cache.
        """
        if not self.keys or self._cached(sha256):
            return
        from ml.model.download import Download
        from ml.model.http import Client, DownloadError, UnreachableError
        from ml.model.urls import beside

        url, partial = beside(self.url, ".sig"), self.cache.partial(shared=False)
        path = urlsplit(url).path
        policy = dataclasses.replace(policy, max_bytes=signature.MAX_FILE_BYTES)
        try:
            with Client(url, self.token) as client:
                Download(client, policy, self.report, self.failed, "the signature").run(partial, fresh=fresh)
            _check(sha256, partial.path.read_bytes(), self.keys)
            partial.path.replace(self.cache.signature(sha256))
        except UnreachableError as error:
            raise UnreachableError(f"the signature at {path}: {error}") from None
        except DownloadError as error:
            # MissingError stays what it is.
            raise type(error)(f"MODEL_PUBLIC_KEY requires a signature at {path}, but {error}") from None
        finally:
            partial.discard()

    def _cached(self, sha256: str) -> bool:
        try:
            return signature.verify(sha256, self.cache.signature(sha256).read_bytes(), self.keys)
        except (OSError, SignatureError):
            return False


def check_file(path: Path, keys: tuple[bytes, ...]) -> None:
    """Check a local file by the signature beside it, PATH.sig, if there are keys.

    Raises:
        SignatureError: there is none, or it is not valid.
        OSError: the file can't be read.
    """
    if not keys:
        return
    beside = path.with_name(f"{path.name}.sig")
    try:
        with beside.open("rb") as file:
            content = file.read(signature.MAX_FILE_BYTES)
    except OSError as error:
        reason = f"MODEL_PUBLIC_KEY requires a signature, but {beside} can't be read: {error.strerror}"
        raise SignatureError(reason) from None
    _check(sha256_of(path), content, keys)


def _check(sha256: str, content: bytes, keys: tuple[bytes, ...]) -> None:
    if not signature.verify(sha256, content, keys):
        raise SignatureError(_UNSIGNED)
