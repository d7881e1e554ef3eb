"""A download under way: which version of the file it is, and how much of it is there."""

import contextlib
import dataclasses
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True)
class Version:
    """What a server says of the version of a file that it sent; None where it doesn't say."""

    etag: str | None = None
    last_modified: str | None = None
    size: int | None = None

    @property
    def range_condition(self) -> str | None:
        """Value for If-Range, which takes no weak ETag: one may stand for two files that differ in bytes."""
        if self.etag is not None and not self.etag.startswith("W/"):
            return self.etag
        return self.last_modified


class Partial:
    """A download under way: its bytes so far, and beside them the version that they belong to."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self._note = path.with_name(f"{path.name}.json")

    def resumable(self) -> tuple[int, Version] | None:
        """Return the bytes that are there and their version, where a server can be asked for the rest."""
        note = read_note(self._note)
        version = Version(note.get("etag"), note.get("last_modified"), note.get("size"))
        try:
            size = self.path.stat().st_size
        except OSError:
            return None
        return (size, version) if size and version.range_condition else None

    def start(self, version: Version) -> None:
        """Begin with nothing. Raises OSError."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self.path.unlink(missing_ok=True)  # first: old bytes must never stand beside the new version's note
        write_note(self._note, dataclasses.asdict(version))

    def discard(self) -> None:
        """Remove it, as far as the file system lets."""
        for path in (self.path, self._note):
            with contextlib.suppress(OSError):
                path.unlink(missing_ok=True)


def read_note(path: Path) -> dict[str, Any]:
    """Return the object in a file, or an empty one where there is none that can be used."""
    try:
        value = json.loads(path.read_bytes())
    except (OSError, ValueError):
        return {}
    kinds = {"etag": str, "last_modified": str, "size": int}
    if not isinstance(value, dict) or any(
        not isinstance(value.get(name), kind | None) for name, kind in kinds.items()
    ):
        return {}
    return value


def write_note(path: Path, value: dict[str, Any]) -> None:
    """Put the object into a file, whole or not at all. Raises OSError."""
    beside = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    beside.write_text(json.dumps(value))
    beside.replace(path)
