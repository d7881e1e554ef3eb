"""Photos that the service keeps for later training: their records, and how a store gets them.

A store is a folder or a bucket. For each photo it has `DAY/ID.jpg`, and `DAY/ID.json`, the record, which is
written later: a record means that its photo is complete. `ml.collected` reads and deletes them.
"""

import contextlib
import json
import math
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from datetime import datetime
from pathlib import Path
from typing import Any, Protocol
from urllib.request import url2pathname

from ml.model.errors import one_line
from ml.model.files import replaced

FORMAT = 1
MAX_SIDE = 1024
"""Longer side of a kept photo at most, in pixels."""
MAX_RECORD_BYTES = 256 * 1024
"""The largest record that is read: 1,000 classes with names of 100 characters take less."""
UNKNOWN, UNSURE, CONTRADICTED, RANDOM = REASONS = ("unknown", "unsure", "contradicted", "random")
"""Why a photo is kept: its answer is `unknown`; the answer's confidence is low; feedback contradicts the
answer; it belongs to the random share."""
BUCKETS = {"s3": "s3fs", "gs": "gcsfs"}
"""Schemes of the addresses of buckets, and the package that each needs."""

TIME = "%Y-%m-%dT%H:%M:%SZ"
"""How a record writes a time, for `strftime`."""

_ID = re.compile(r"[0-9a-f]{32}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_REQUEST_ID = re.compile(r"[A-Za-z0-9._-]{1,128}")  # 64 of the client's, and the signature
_MAX_NAME = 100
_SCHEME = re.compile(r"[A-Za-z0-9+.-]{2,}:")  # one letter is a drive of Windows
_ADDRESS = re.compile(rf"({'|'.join(BUCKETS)})://[a-z0-9][a-z0-9._-]{{1,220}}(/[^\s?#\\]*)?")
_TOTAL_S = 30
"""Time for one file in a bucket. The clients' own limits don't apply while they wait for `100 Continue`."""
_S3_OPTIONS = {"connect_timeout": 5, "read_timeout": 20, "retries": {"total_max_attempts": 1}}


class RecordError(ValueError):
    """A record that is not valid; the message is one line."""


@dataclass(frozen=True)
class Record:
    """What is kept beside a photo. Nothing in it says who sent the photo.

    Attributes:
        id: 32 hexadecimal digits that the service chose; the name of the two files.
        request_id: the `request_id` in the answer.
        time: of the answer, UTC, as in 2026-11-27T14:03:22Z.
        reasons: one or more of `REASONS`.
        random_share: share of the photos that is kept at random, from 0 to 1.
        answer: `label`, `probabilities` by class, and `known` (None: the model has no OOD score).
        model: `version` and `sha256` of the model that answered.
        actual: the label according to feedback; None: there was none.
        width, height: of the kept photo, in pixels.
        sha256: of the kept photo's file.
    """

    id: str
    request_id: str
    time: str
    reasons: tuple[str, ...]
    random_share: float
    answer: Mapping[str, Any]
    model: Mapping[str, str]
    actual: str | None = None
    width: int = 0
    height: int = 0
    sha256: str = ""

    @property
    def day(self) -> str:
        """The folder of its files: the date."""
        return self.time[:10]

    @property
    def photo_path(self) -> str:
        """Path of the photo in its store."""
        return f"{self.day}/{self.id}.jpg"

    @property
    def path(self) -> str:
        """Path of the record itself."""
        return f"{self.day}/{self.id}.json"

    def to_json(self) -> bytes:
        """Return the content of its file."""
        return json.dumps({"format": FORMAT, **asdict(self)}, ensure_ascii=False).encode()

    @classmethod
    def from_json(cls, content: bytes) -> "Record":
        """Return the record in a file, of which nothing is trusted.

        Raises:
            RecordError: it is not a valid record.
        """
        try:
            document = json.loads(content)
            if document.pop("format") != FORMAT:
                raise RecordError("it has another format")
            record = cls(**document | {"reasons": tuple(document["reasons"])})
            _check(record)
        except RecordError:
            raise
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError, RecursionError) as error:
            raise RecordError(f"it is not valid: {one_line(str(error), 100)}") from None
        return record


def _check(record: Record) -> None:
    """Raise an exception unless each value is of the right kind."""
    datetime.strptime(record.time, TIME)
    answer, model = record.answer, record.model
    shares = answer["probabilities"]
    numbers = [record.random_share, *shares.values(), *([] if answer["known"] is None else [answer["known"]])]
    names = [answer["label"], *shares, *([] if record.actual is None else [record.actual])]
    valid = (
        _ID.fullmatch(record.id)
        and len(record.time) == len("2026-11-27T14:03:22Z")
        and _REQUEST_ID.fullmatch(record.request_id)
        and record.reasons
        and set(record.reasons) <= set(REASONS)
        and shares
        and all(type(number) in (int, float) and math.isfinite(number) for number in numbers)
        and all(0 <= number <= 1 for number in numbers)
        and all(isinstance(name, str) and 0 < len(name) <= _MAX_NAME for name in names)
        and isinstance(model["version"], str)
        and _SHA256.fullmatch(model["sha256"])
        and _SHA256.fullmatch(record.sha256)
        and all(type(side) is int and 0 < side <= MAX_SIDE for side in (record.width, record.height))
    )
    if not valid:
        raise RecordError("it is not valid: a value is missing or of the wrong kind")


class Store(Protocol):
    """Where kept photos are written."""

    def write(self, path: str, content: bytes) -> None:
        """Write a file, all of it or nothing; any exception says that it failed."""

    def read(self, path: str) -> bytes:
        """Return a file's content, if it isn't longer than a record.

        Raises:
            FileNotFoundError: there is no such file.
            PermissionError: the service has no right to read.
            Exception: of any other kind, if the store can't be read now.
        """

    def remove(self, path: str) -> None:
        """Remove a file, unless there is none; any exception says that it failed."""


class Folder:
    """A folder of this machine; it is created when the first file is written."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def write(self, path: str, content: bytes) -> None:
        """Write a file; see `Store`."""
        target = self.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        with replaced(target) as file:
            file.write(content)

    def read(self, path: str) -> bytes:
        """Return a file's content; see `Store`."""
        with (self.root / path).open("rb") as file:
            return file.read(MAX_RECORD_BYTES)

    def remove(self, path: str) -> None:
        """Remove a file; see `Store`."""
        (self.root / path).unlink(missing_ok=True)


class Bucket:
    """A bucket, through fsspec. `AWS_ENDPOINT_URL` and `STORAGE_EMULATOR_HOST` name other services."""

    def __init__(self, address: str) -> None:
        import fsspec  # an optional package

        scheme, _, self.root = address.rstrip("/").partition("://")
        # Without time limits, an outage would keep the connection for many minutes.
        options = {"config_kwargs": _S3_OPTIONS} if scheme == "s3" else {"timeout": 20}
        # A cached client would keep credentials that have been replaced since.
        caches = {"use_listings_cache": False, "skip_instance_cache": True}
        self.files: Any = fsspec.filesystem(scheme, **caches, **options)
        self.files.retries = 1

    def write(self, path: str, content: bytes) -> None:
        """Write a file; see `Store`."""
        self.files.pipe_file(f"{self.root}/{path}", content, timeout=_TOTAL_S)

    def read(self, path: str) -> bytes:
        """Return a file's content; see `Store`."""
        name = f"{self.root}/{path}"
        try:
            return bytes(self.files.cat_file(name, end=MAX_RECORD_BYTES, timeout=_TOTAL_S))
        except PermissionError as error:
            # s3fs raises it for expired and replaced credentials too.
            code = getattr(error.__cause__, "response", {}).get("Error", {}).get("Code")
            if code in ("AccessDenied", "403"):
                raise
            raise OSError(str(error)) from error
        except OSError as error:
            if str(error).startswith("Forbidden"):  # gcsfs has no exception of its own for it
                raise PermissionError(str(error)) from error
            raise

    def remove(self, path: str) -> None:
        """Remove a file; see `Store`."""
        with contextlib.suppress(FileNotFoundError):
            self.files.rm_file(f"{self.root}/{path}", timeout=_TOTAL_S)


def local_folder(address: str) -> Path | None:
    """Return the folder that a path or a `file://` URL names; None: the address is a bucket's.

    Raises:
        ValueError: it is neither; the message says what it must be.
    """
    if address.startswith("file:///"):
        return Path(url2pathname(address.removeprefix("file://")))
    if not _SCHEME.match(address):
        return Path(address)
    if not _ADDRESS.fullmatch(address):
        raise ValueError("must be a folder, or s3://BUCKET/PREFIX or gs://BUCKET/PREFIX")
    return None


def open_store(address: str) -> Store:
    """Return the store at an address, without a connection to it; see `local_folder`.

    Raises:
        ValueError: the address is not valid.
        ImportError: the package for such buckets is not installed.
    """
    if (folder := local_folder(address)) is not None:
        return Folder(folder)
    return Bucket(address)


def keep(store: Store, record: Record, photo: bytes) -> None:
    """Write a photo and its record. Whatever happens, there is no record without its photo.

    If the record can't be written, the photo is removed, if the store still allows it: without its record,
    nobody finds it by its request id. The exception is that of the record.
    """
    store.write(record.photo_path, photo)
    try:
        store.write(record.path, record.to_json())
    except Exception:
        with contextlib.suppress(Exception):
            store.remove(record.path)  # first: a bucket may have written it, and only its answer was lost
            store.remove(record.photo_path)
        raise
