"""Where photos and datasets are: this machine's files, or an object store, through pyarrow."""

import datetime
import functools
import os
import re
from pathlib import Path
from urllib.parse import unquote_to_bytes

from pyarrow import fs

from ml.model.errors import PipelineError, one_line

STORES = ("s3", "gs")
"""Schemes of object stores."""
_SCHEME = re.compile(r"([A-Za-z][A-Za-z0-9+.-]*)://")
_CONNECT_S, _REQUEST_S = 10.0, 60.0


def scheme(address: str) -> str:
    """Return the scheme of an address in lower case; empty: it is a path of this machine."""
    match = _SCHEME.match(address)
    return match[1].lower() if match else ""


def is_remote(address: str) -> bool:
    """Return whether a photo is read over the network."""
    return scheme(address) not in ("", "file")


def locate(address: str) -> tuple[fs.FileSystem, str]:
    """Return the file system of a path or of an object's address, and the path in it.

    `AWS_ENDPOINT_URL` names another S3 service, `STORAGE_EMULATOR_HOST` another one of Google's kind. The
    credentials are those that the stores' own tools use.

    Raises:
        OSError: the store cannot be used.
        ValueError: there is no such kind of store, or the address names no bucket.
    """
    kind = scheme(address)
    if kind not in STORES:
        return _local(), local_path(address)
    path = address.partition("://")[2].rstrip("/")
    bucket = path.partition("/")[0]
    if not bucket:
        raise ValueError("the address names no bucket")
    return (_s3(bucket) if kind == "s3" else _gcs()), path


def local_path(address: str) -> str:
    """Return the path that a path or a `file://` URL names.

    Raises:
        ValueError: the address has another scheme, or names another computer (RFC 8089).
    """
    kind = scheme(address)
    if not kind:
        return address
    if kind != "file":
        raise ValueError(f"addresses that begin with {kind}:// are not supported")
    host, slash, path = address[len("file://") :].partition("/")
    if host not in ("", "localhost") or not slash:
        raise ValueError("a file URL needs an absolute path, as in file:///photos/1.jpg")
    return os.fsdecode(unquote_to_bytes(slash + path))


def canonical(address: str) -> str:
    """Return a path as an absolute one, and the address of an object without slashes at its end.

    Raises:
        ValueError: the address has a scheme of no store.
    """
    if scheme(address) not in STORES:
        return os.path.abspath(local_path(address))  # noqa: PTH100  (links stay as they are)
    return f"{scheme(address)}://{address.partition('://')[2].rstrip('/')}"


def utf8(path: str) -> str:
    """Return a local path as it is, or as a `file://` URL if its name is not UTF-8, as Parquet requires."""
    try:
        path.encode()
    except UnicodeEncodeError:
        return Path(os.path.abspath(path)).as_uri()  # noqa: PTH100
    return path


def explain(error: Exception) -> str:
    """Return an error of a file or store as one short line."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return one_line(text, 200) or type(error).__name__


def unusable(address: str, error: Exception) -> PipelineError:
    """Return the error for a place that cannot be read or written at all."""
    return PipelineError(f"{one_line(address)}: {explain(error)}")


@functools.cache
def _local() -> fs.FileSystem:
    return fs.LocalFileSystem()


@functools.cache
def _s3(bucket: str) -> fs.FileSystem:
    endpoint = os.environ.get("AWS_ENDPOINT_URL_S3") or os.environ.get("AWS_ENDPOINT_URL")
    region = os.environ.get("AWS_REGION") or os.environ.get("AWS_DEFAULT_REGION")
    if not region and not endpoint:
        region = fs.resolve_s3_region(bucket)
    return fs.S3FileSystem(
        region=region,
        endpoint_override=endpoint,
        connect_timeout=_CONNECT_S,
        request_timeout=_REQUEST_S,
    )


@functools.cache
def _gcs() -> fs.FileSystem:
    limit = datetime.timedelta(seconds=_REQUEST_S)
    if emulator := os.environ.get("STORAGE_EMULATOR_HOST"):
        kind, _, host = emulator.rpartition("://")
        return fs.GcsFileSystem(
            anonymous=True, endpoint_override=host.rstrip("/"), scheme=kind or "http", retry_time_limit=limit
        )
    return fs.GcsFileSystem(retry_time_limit=limit)
