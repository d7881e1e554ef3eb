"""Which photos are listed, and which have rows, in bounded memory."""

import contextlib
import errno
import hashlib
import sqlite3
from collections.abc import Iterable, Iterator


@contextlib.contextmanager
def _disk_errors() -> Iterator[None]:
    """Raise OSError if the disk is full, as files do."""
    try:
        yield
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_FULL:
            raise
        raise OSError(errno.ENOSPC, str(error), "the folder for temporary files (TMPDIR)") from error


class Ledger:
    """Paths with their numbers of rows, in a temporary database on disk that ends with `close`.

    Its methods raise OSError if the disk is full.
    """

    def __init__(self) -> None:
        self._database = sqlite3.connect("", isolation_level=None, check_same_thread=False)
        self._database.execute("PRAGMA journal_mode = OFF")
        self._database.execute(
            "CREATE TABLE photos (digest BLOB PRIMARY KEY, listed INT DEFAULT 0, rows INT DEFAULT 0) "
            "WITHOUT ROWID"
        )

    def close(self) -> None:
        """Delete the database."""
        self._database.close()

    def present(self) -> int:
        """Return how many photos have a row."""
        return self._count("WHERE rows > 0")

    @_disk_errors()
    def add_rows(self, paths: Iterable[str]) -> None:
        """Count a row for each path."""
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT INTO photos (digest, rows) VALUES (?, 1) ON CONFLICT DO UPDATE SET rows = rows + 1",
            ((_digest(path),) for path in paths),
        )
        self._database.execute("COMMIT")

    @_disk_errors()
    def forget_rows(self) -> None:
        """Set all numbers of rows to 0."""
        self._database.execute("UPDATE photos SET rows = 0")

    @_disk_errors()
    def note_listed(self, paths: Iterable[str]) -> list[str]:
        """Note that photos are listed; return those that have no row and were not listed before, each once.

        For many at a time, because each statement makes the threads that score wait for the interpreter.
        """
        by_digest: dict[bytes, str] = {}
        for path in paths:
            by_digest.setdefault(_digest(path), path)
        digests = list(by_digest)
        marks = ",".join("?" * len(digests))
        query = f"SELECT digest FROM photos WHERE (rows > 0 OR listed > 0) AND digest IN ({marks})"  # noqa: S608
        known = self._database.execute(query, digests).fetchall()
        for (digest,) in known:
            del by_digest[digest]
        self._database.execute("BEGIN")
        self._database.executemany(
            "INSERT INTO photos (digest, listed) VALUES (?, 1) ON CONFLICT DO UPDATE SET listed = 1",
            ((digest,) for digest in digests),
        )
        self._database.execute("COMMIT")
        return list(by_digest.values())

    def listed(self) -> int:
        """Return how many photos are listed."""
        return self._count("WHERE listed > 0")

    def missing(self) -> int:
        """Return how many photos are listed and have no row."""
        return self._count("WHERE listed > 0 AND rows = 0")

    def doubled(self) -> int:
        """Return how many photos have more than one row."""
        return self._count("WHERE rows > 1")

    @_disk_errors()
    def _count(self, condition: str) -> int:
        query = f"SELECT count(*) FROM photos {condition}"  # noqa: S608  (constants of this class)
        (count,) = self._database.execute(query).fetchone()
        return int(count)


def _digest(path: str) -> bytes:
    return hashlib.blake2b(path.encode(), digest_size=16).digest()
