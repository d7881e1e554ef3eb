"""Tables that belong in Git: .csv files that people edit and spreadsheets save, with a dataclass per line.

The first line has the names of the dataclass's fields, all of them texts. Its `__post_init__` raises
ValueError for values that nobody may act upon.
"""

import csv
import dataclasses
import io
import re
from collections.abc import Iterable
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from ml.model.errors import PipelineError, one_line
from ml.model.files import replaced

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

Row = TypeVar("Row", bound="DataclassInstance")

SHA256 = re.compile("[0-9a-f]{64}")
_MAX_BYTES = 256 << 20


def columns(row: type[Row]) -> list[str]:
    """Return the first line of the table."""
    return [field.name for field in dataclasses.fields(row)]


def load(path: Path, row: type[Row], unique: str = "", whole_lines: bool = False) -> list[Row]:
    """Read a table; it is empty if there is no file.

    Args:
        path: of the file.
        row: the dataclass.
        unique: a field that no two lines have in common.
        whole_lines: whether a last line without an end is left out, as the writer was killed.

    Raises:
        PipelineError: the file cannot be read, or a line is invalid.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise PipelineError(
                f"{path} is larger than {_MAX_BYTES >> 20} MB, so it can't be the table with the columns "
                f"{','.join(columns(row))}: restore it, for example from Git"
            )
        content = path.read_bytes()
    except FileNotFoundError:
        return []
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error.strerror}") from error
    try:
        # Spreadsheets begin a file with a byte order mark.
        text = (content[: content.rfind(b"\n") + 1] if whole_lines else content).decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path} is not UTF-8 text") from error
    table = csv.reader(io.StringIO(text, newline=""), strict=True)
    names, rows, seen = columns(row), [], dict[str, int]()
    try:
        if next(table, names) != names:
            raise ValueError(f"expected the columns {','.join(names)}")
        for cells in filter(None, table):
            if len(cells) != len(names):
                raise ValueError(f"expected {','.join(names)}, not {one_line(','.join(cells), 80)!r}")
            rows.append(row(*cells))
            if unique:
                line = seen.setdefault(getattr(rows[-1], unique), table.line_num)
                if line != table.line_num:
                    raise ValueError(f"line {line} is about the same photo: delete one of them")
    except (csv.Error, ValueError) as error:
        raise PipelineError(f"{path}, line {max(table.line_num, 1)}: {error}") from error
    return rows


def lines(row: type[Row], rows: Iterable[Row], header: bool = True) -> bytes:
    """Return a table's text."""
    buffer = io.StringIO(newline="")
    table = csv.writer(buffer, lineterminator="\n")
    if header:
        table.writerow(columns(row))
    table.writerows(map(dataclasses.astuple, rows))
    return buffer.getvalue().encode()


def save(path: Path, row: type[Row], rows: Iterable[Row]) -> None:
    """Replace a table, sorted by the caller so that versions of it can be merged; raises OSError."""
    with replaced(path) as file:
        file.write(lines(row, rows))
