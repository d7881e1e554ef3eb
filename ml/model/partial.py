"""An unfinished download on disk: its bytes, and the version of the file that they belong to."""

import contextlib
import dataclasses
import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Version:
    """How a server identifies the version of a file; None for what it does not state."""

    etag: str | None = None
    last_modified: str | None = None
    size: int | None = None

    @property
    def range_condition(self) -> str | None:
        """Value for If-Range, which takes no weak ETag: files with the same one may differ in bytes."""
        if self.etag is not None and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified


class Partial:
    """The bytes received so far, with a note beside them that holds their version."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note = path.with_name(f"{path.name}.json")

    def resumable(self) -> tuple[int, Version] | None:
        """Return the number of bytes and their version, or None if the download cannot be resumed."""
        note = read_note(self._note)
        version = Version(note.get("etag"), note.get("last_modified"), note.get("size"))
        try:
            size = self.path.stat().st_size
        except OSError:
            return None
        return (size, version) if size and version.range_condition else None

    def start(self, version: Version) -> None:
        """Begin with an empty file. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)  # before the note: it must never describe bytes of an older version
        write_note(self._note, dataclasses.asdict(version))

    def discard(self) -> None:
        """Remove both files, as far as the file system allows it."""
        for path in (self.path, self._note):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def read_note(path: Path) -> dict[str, Any]:
    """Return the object in a file, or an empty one if the file is missing or damaged."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    kinds = {"etag": str, "last_modified": str, "size": int}
    intact = isinstance(value, dict) and all(
        isinstance(value.get(name), kind | None) for name, kind in kinds.items()
    )
    return value if intact else {}


def write_note(path: Path, value: dict[str, Any]) -> None:
    """Write the object to a file atomically. Raises OSError."""
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    temporary.write_text(json.dumps(value))
    temporary.replace(path)


def sha256_of(path: Path) -> str:
    """Return a file's SHA-256, hexadecimal. Raises OSError."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
