"""Tables of labels: .csv and .tsv files with a column of file names, and one of classes or one per class.

Tables with the same columns (train.csv, val.csv and test.csv) are read as one. The split of a photo is in a
column, or the table's name, or the photo's folder.
"""

import csv
import io
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath

from ml.data.splits import split_name
from ml.model.errors import one_line
from ml.model.manifest import MAX_CLASSES

EXPLICIT = ("label", "labels", "labelname", "class", "classname")
"""Titles, in lower case and without spaces and the like, that leave no doubt where the classes are."""
_CLASS_COLUMNS = (*EXPLICIT, "category", "breed", "species", "variety", "diagnosis", "dx", "target", "type")
_SPLIT_COLUMNS = ("split", "set", "subset", "dataset", "fold")
MATCHED = 0.9
"""Share of a table's rows that must name a photo, and of photos whose label a table must have."""


@dataclass(frozen=True)
class LabelTable:
    """The labels in a table, or in several that have the same columns.

    Attributes:
        names: of the tables.
        column: the title of the classes, as in `EXPLICIT`; empty: each class has a column.
        labels: the class of each photo that has one, by its path.
        splits: train, val or test by path, if the owner has split the photos.
        error: why the labels cannot be used; empty: they can.
    """

    names: str
    column: str
    labels: dict[PurePosixPath, str]
    splits: dict[PurePosixPath, str]
    error: str = ""


@dataclass(frozen=True)
class _Row:
    """A row that names a photo; its other cells."""

    table: PurePosixPath
    photo: PurePosixPath
    cells: list[str]


def read_tables(photos: Sequence[PurePosixPath], texts: Mapping[str, str]) -> list[LabelTable]:
    """Find the tables of labels, by the texts of all tables; the one that has the most labels comes first.

    A photo is named by its path, or by the end of it, with or without its suffix.
    """
    by_name: dict[str, list[PurePosixPath]] = {}
    for photo in photos if texts else ():
        ends = ("/".join(photo.parts[first:]) for first in range(len(photo.parts)))
        for name in {photo.stem, *ends}:
            by_name.setdefault(name, []).append(photo)
    groups: dict[tuple[str, ...], list[_Row]] = {}
    for name, text in sorted(texts.items()):
        if "submission" not in name.lower():  # competitions show with made-up labels what they expect
            columns, rows = _read(PurePosixPath(name), text, by_name)
            groups.setdefault(columns, []).extend(rows)
    found = (_labelled(columns, rows) for columns, rows in groups.items() if rows)
    return sorted((table for table in found if table), key=lambda table: -len(table.labels))


def _read(
    table: PurePosixPath, text: str, by_name: Mapping[str, list[PurePosixPath]]
) -> tuple[tuple[str, ...], list[_Row]]:
    """Return the titles of a table, that of the photos first, and its rows; none if it names no photos."""
    # Where the comma is the decimal separator, spreadsheets put semicolons between the columns.
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        header, *rows = filter(None, csv.reader(io.StringIO(text, newline=None), delimiter=delimiter))
    except (ValueError, csv.Error):
        return (), []
    titles = [title.strip() for title in header]
    rows = [row for row in rows if len(row) == len(titles)]
    names = [[_as_path(cell) for cell in column] for column in zip(*rows, strict=True)]
    # Numbers may name photos and be classes: names of photos differ.
    files = max(
        range(len(names)),
        key=lambda column: (sum(name in by_name for name in names[column]), len(set(names[column]))),
        default=-1,
    )
    photos = [_photo(name, table, by_name) for name in names[files]] if rows else []
    found = [_Row(table, photo, row) for photo, row in zip(photos, rows, strict=True) if photo]
    for row in found:
        del row.cells[files]
    return (titles.pop(files), *titles), found if len(found) >= MATCHED * len(rows) else []


def _as_path(value: str) -> str:
    return value.strip().replace("\\", "/").removeprefix("./")


def _photo(
    name: str, table: PurePosixPath, by_name: Mapping[str, list[PurePosixPath]]
) -> PurePosixPath | None:
    """Return the photo of a name; of several, the one below the table's folder, or in its split's."""
    photos = by_name.get(name, [])
    if len(photos) < 2:
        return next(iter(photos), None)
    below = [photo for photo in photos if photo.is_relative_to(table.parent)]
    same = [photo for photo in photos if _split_of_folders(photo) == _split_of_table(table) != ""]
    return next((some[0] for some in (below, same) if len(some) == 1), None)


def _split_of_folders(path: PurePosixPath) -> str:
    return next(filter(None, map(split_name, path.parts[:-1])), "")


def _split_of_table(path: PurePosixPath) -> str:
    return split_name(re.sub(r"[_\- ]?(labels?|split)$", "", path.stem)) or _split_of_folders(path)


def _labelled(titles: tuple[str, ...], rows: Sequence[_Row]) -> LabelTable | None:
    """Return the labels of rows; None if none of the columns, or none in particular, has the classes."""
    columns = dict(zip(titles[1:], zip(*(row.cells for row in rows), strict=True), strict=False))
    by_key = {re.sub(r"[\W_]", "", title).lower(): title for title in columns}
    split = next(
        (key for key in _SPLIT_COLUMNS if any(map(split_name, columns.get(by_key.get(key, ""), ())))), ""
    )
    own = columns.pop(by_key[split]) if split else None
    usable = [title for title in columns if _is_label(columns[title])]
    known = next((key for key in _CLASS_COLUMNS if by_key.get(key) in usable), "")
    if known:
        chosen: Sequence[str] | None = columns[by_key[known]]
    else:
        chosen = columns[usable[0]] if len(usable) == 1 else _from_column_per_class(columns)
    if chosen is None:
        return None
    names = one_line(", ".join(dict.fromkeys(str(row.table) for row in rows)), 100)
    labels: dict[PurePosixPath, str] = {}
    splits: dict[PurePosixPath, str] = {}
    error = ""
    try:
        parts = [_split(cell, by_key[split]) for cell in own] if own else _splits_by_name(rows)
        for row, cell, part in zip(rows, chosen, parts, strict=True):
            if label := cell.strip():  # empty: a photo of no class
                _agree("classes", row.photo, labels.setdefault(row.photo, label), label)
                if part:
                    _agree("splits", row.photo, splits.setdefault(row.photo, part), part)
    except ValueError as fault:
        error = f"{names}: {fault}"
    return LabelTable(names, known, labels, splits, error)


def _from_column_per_class(columns: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Return the class of each row, by the only 1 in it; empty: it has none, or several. None: most don't."""
    cells = {title: values for title, values in columns.items() if {*values} <= {"0", "1", "0.0", "1.0"}}
    found = [
        [title for title, cell in zip(cells, row, strict=True) if float(cell)]
        for row in zip(*cells.values(), strict=True)
    ]
    classes = [row[0] if len(row) == 1 else "" for row in found]
    return classes if sum(map(bool, classes)) >= MATCHED * len(classes) and _is_label(classes) else None


def _is_label(values: Sequence[str]) -> bool:
    """Return whether these may be the classes of photos: not too many, and each more than once on average."""
    labels = [value for value in map(str.strip, values) if value]
    return 1 < len(set(labels)) <= min(MAX_CLASSES, len(labels) / 2)


def _split(cell: str, title: str) -> str:
    value = cell.strip()
    if value and not split_name(value):
        raise ValueError(f"{one_line(value, 40)!r} in its column {title!r} is none of train, val and test")
    return split_name(value)


def _splits_by_name(rows: Sequence[_Row]) -> list[str]:
    """Return the splits that all tables, or else all folders of photos, are named after; else empty texts."""
    by_table = {table: _split_of_table(table) for table in {row.table for row in rows}}
    for splits in (
        [by_table[row.table] for row in rows],
        [_split_of_folders(row.photo) for row in rows],
    ):
        if "train" in splits and all(splits):
            return splits
    return [""] * len(rows)


def _agree(things: str, photo: PurePosixPath, first: str, second: str) -> None:
    if first != second:
        raise ValueError(f"{photo} is in two {things}, {one_line(first, 40)!r} and {one_line(second, 40)!r}")
