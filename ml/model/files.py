"""Writing files so that a full disk or a kill leaves the old file or the new one, never a part."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

_ZEROS = bytes(1 << 20)


@contextmanager
def replaced(path: Path) -> Iterator[IO[bytes]]:
    """Yield a file that takes the place of `path` at the end of the block, unless the block raises."""
    unfinished = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with unfinished.open("wb") as file:
            yield file
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def reserve(file: IO[bytes], size: int) -> None:
    """Make sure that the disk has room for a file that will be mapped into memory.

    Otherwise, on a full disk, the first write to a page of the mapping kills the process.

    Args:
        file: open for writing; new bytes of it are zeros.
        size: of the file, in bytes.

    Raises:
        OSError: the disk is full.
    """
    if hasattr(os, "posix_fallocate"):
        os.posix_fallocate(file.fileno(), 0, size)
        return
    file.seek(0, os.SEEK_END)
    while (missing := size - file.tell()) > 0:
        file.write(_ZEROS[:missing])
    file.flush()
