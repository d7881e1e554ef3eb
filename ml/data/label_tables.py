"""Tables of labels: .csv and .tsv files with a column of file names, and one of classes or one per class.

Tables with the same columns (train.csv, val.csv and test.csv) are read as one. The split of a photo is in a
column, or the table's name, or the photo's folder.
"""

import csv
import io
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import PurePosixPath
from unicodedata import normalize

from ml.data.masks import MASK_FOLDERS
from ml.data.splits import split_name
from ml.model.errors import one_line
from ml.model.formats import SUFFIXES
from ml.model.manifest import MAX_CLASSES

EXPLICIT = ("label", "labels", "labelname", "class", "classname")
"""Titles, in lower case and without spaces and the like, that leave no doubt where the classes are."""
_CLASS_COLUMNS = (*EXPLICIT, "category", "breed", "species", "variety", "dx", "target", "diagnosis", "type")
_SPLIT_COLUMNS = ("split", "set", "subset", "dataset", "fold", "partition")
_BESIDE = MASK_FOLDERS | {"mask"}
"""Folders of pictures that are called like the photos to which they belong."""
_DUMMIES = 10
"""A test table with at least this many rows, all of one label, is made up if another table has several."""
_MADE_UP = (
    "; left out: {}, whose rows all have the same label: if it is right, put the rows of all tables "
    "into one, with a column called split"
)
_MAX_CELLS = 5_000_000
"""Of one table. They take about 100 bytes each while it is read."""
_YES, _NO = {"1", "1.0", "true"}, {"0", "0.0", "false"}
MATCHED = 0.9
"""Share of a table's rows that must name a photo, and of photos whose label a table must have."""


@dataclass(frozen=True)
class LabelTable:
    """The labels in a table, or in several that have the same columns.

    Attributes:
        names: of the tables.
        column: the title of the classes, as in `EXPLICIT`; empty: it says nothing.
        is_certain: whether the title says that these are the classes, or each class has a column.
        labels: the class of each photo that has one, by its path.
        splits: train, val or test by path, if the owner has split the photos.
        error: why the labels cannot be used; empty: they can.
        remark: which of the tables is left out, and why; it follows their names.
    """

    names: str
    column: str
    is_certain: bool
    labels: dict[PurePosixPath, str]
    splits: dict[PurePosixPath, str]
    error: str = ""
    remark: str = ""


@dataclass(frozen=True)
class _Row:
    """A row that names a photo; its other cells."""

    table: PurePosixPath
    photo: PurePosixPath
    cells: list[str]


def read_tables(
    photos: Sequence[PurePosixPath], texts: Mapping[str, str]
) -> tuple[list[LabelTable], list[str]]:
    """Find the tables of labels, by the texts of all tables; the clearest comes first.

    A photo is named by its path, or by the end of it, with or without its suffix.

    Returns:
        The tables, and for people why others can't be used.
    """
    by_name: dict[str, list[PurePosixPath]] = {}
    for photo in photos if texts else ():
        ends = ("/".join(photo.parts[first:]) for first in range(len(photo.parts)))
        for name in {photo.stem, *ends}:
            by_name.setdefault(name, []).append(photo)
    groups: dict[tuple[str, ...], list[_Row]] = {}
    remarks = []
    for name, text in sorted(texts.items()):
        if "submission" not in name.lower():  # competitions show with made-up labels what they expect
            columns, rows, remark = _read(PurePosixPath(name), text, by_name)
            if rows:
                groups.setdefault(columns, []).extend(rows)
            else:
                remarks.append(f"{one_line(name, 60)}: {remark}")
    usable = []
    for columns, rows in groups.items():
        if table := _labelled(columns, rows):
            usable.append(table)
        elif len(columns) == 1:
            remarks.append(f"{_names(rows)}: it has only the names of photos")
        else:
            remarks.append(
                f"{_names(rows)}: no column is called label, and it is not clear which column has the "
                "classes: rename that column to label"
            )
    usable.sort(key=lambda table: (bool(table.error), not table.is_certain, -len(table.labels)))
    return usable, remarks


def _key(title: str) -> str:
    return re.sub(r"[\W_]", "", title).lower()


def _names(rows: Sequence[_Row]) -> str:
    return one_line(", ".join(dict.fromkeys(str(row.table) for row in rows)), 100)


def _read(
    table: PurePosixPath, text: str, by_name: Mapping[str, list[PurePosixPath]]
) -> tuple[tuple[str, ...], list[_Row], str]:
    """Return the titles of a table, that of the photos first, and its rows; or no rows, and why."""
    # Where the comma is the decimal separator, spreadsheets put semicolons between the columns.
    delimiter = max(",;\t", key=text.partition("\n")[0].count)
    try:
        rows, cells = [], 0
        for row in filter(None, csv.reader(io.StringIO(text, newline=None), delimiter=delimiter)):
            rows.append(row)
            cells += len(row)
            if cells > _MAX_CELLS:  # pixels, for example
                return (), [], f"it has more than {_MAX_CELLS:,} cells"
    except csv.Error as error:
        return (), [], f"it can't be read: {error}"
    if not rows:
        return (), [], "it is empty"
    titles = [title.strip() for title in rows[0]]
    if any(_as_path(title) in by_name and _are_files([title]) for title in titles):
        # The table has no titles. With its name in them, it isn't read together with others that have none.
        titles = [f"{number} of {table}" for number in range(1, len(titles) + 1)]
    else:
        del rows[0]
    width = len(titles)
    rows = [row if any(map(str.strip, row[width:])) else row[:width] for row in rows]
    wide = [row for row in rows if len(row) > width]
    rows = [row for row in rows if len(row) == width]
    if not rows:
        return (), [], "it has no rows with as many cells as titles"
    names = [[_as_path(cell) for cell in column] for column in zip(*rows, strict=True)]
    files = max(
        # Numbers may be classes and name photos all the same.
        [column for column, cells in enumerate(names) if _are_files(cells)] or range(len(names)),
        key=lambda column: (sum(name in by_name for name in names[column]), len(set(names[column]))),
    )
    wide = [row for row in wide if _as_path(row[files]) in by_name]
    if len(wide) > (1 - MATCHED) * len(rows):
        remark = f"it has {width} titles, and a row of {len(wide[0])} cells, {_short(', '.join(wide[0]))}"
        return (), [], f"{remark}: put names that have a comma into double quotes"
    photos = {name: _photo(name, table, by_name) for name in {*names[files]}}
    found = [
        _Row(table, photo, row)
        for name, row in zip(names[files], rows, strict=True)
        if (photo := photos[name])
    ]
    if len(found) < MATCHED * len(rows):
        missing = next(name for name in names[files] if not photos[name])
        remark = (
            f"of {len(rows):,} rows, {len(found):,} name exactly one photo (column {_short(titles[files])}); "
            f"the first that does not has {_short(missing)}"
        )
        return (), [], remark
    for each in found:
        del each.cells[files]
    return (titles.pop(files), *titles), found, ""


def _as_path(value: str) -> str:
    return normalize("NFC", value.strip().replace("\\", "/").removeprefix("./"))


def _are_files(cells: Sequence[str]) -> bool:
    suffixed = sum(PurePosixPath(cell).suffix.lower() in SUFFIXES and "://" not in cell for cell in cells)
    return suffixed >= MATCHED * len(cells)


def _photo(
    name: str, table: PurePosixPath, by_name: Mapping[str, list[PurePosixPath]]
) -> PurePosixPath | None:
    """Return the photo of a name; of several, the one below the table's folder, or in its split's."""
    photos = by_name.get(name, [])
    if len(photos) < 2:
        return next(iter(photos), None)
    likely = [photo for photo in photos if _BESIDE.isdisjoint(map(str.lower, photo.parts[:-1]))]
    below = [photo for photo in likely if photo.is_relative_to(table.parent)]
    of_split = [photo for photo in likely if _split_of_folders(photo) == _split_of_table(table) != ""]
    return next((choice[0] for choice in (likely, below, of_split) if len(choice) == 1), None)


def _split_of_folders(path: PurePosixPath) -> str:
    return next(filter(None, map(split_name, path.parts[:-1])), "")


def _split_of_table(path: PurePosixPath) -> str:
    return split_name(
        re.sub(r"[_\- ]?(labels?|split)$", "", path.stem, flags=re.IGNORECASE)
    ) or _split_of_folders(path)


def _labelled(titles: tuple[str, ...], rows: Sequence[_Row]) -> LabelTable | None:
    """Return the labels of rows; None if no column could have the classes, or several could."""
    columns = dict(zip(titles[1:], zip(*(row.cells for row in rows), strict=True), strict=False))
    by_key = {_key(title): title for title in columns}
    split = next(
        (by_key[key] for key in _SPLIT_COLUMNS if _has_splits(key, columns.get(by_key.get(key, "")))), ""
    )
    parts = [cell.strip() for cell in columns[split]] if split else _splits_by_name(rows)
    for key in _SPLIT_COLUMNS:
        columns.pop(by_key.get(key, ""), None)
    usable = [title for title in columns if _is_label(columns[title])]
    known = next((key for key in _CLASS_COLUMNS if by_key.get(key) in usable), "")
    per_class = None if known else _from_column_per_class(columns)
    if known:
        cells: Sequence[str] = columns[by_key[known]]
    elif per_class:
        cells = per_class
    elif len(usable) == 1:
        cells = columns[usable[0]]
    else:
        return None
    names = _names(rows)
    labels: dict[PurePosixPath, str] = {}
    splits: dict[PurePosixPath, str] = {}
    error, dummies = "", _dummies(rows, cells)
    for row, cell, part in zip(rows, cells, parts, strict=True):
        label, name = normalize("NFC", cell.strip()), split_name(part)
        if not label or row.table in dummies:  # a photo of no class
            continue
        if labels.setdefault(row.photo, label) != label:
            error = error or (
                f"{row.photo} is in two classes, {_short(labels[row.photo])} and {_short(label)}: "
                "correct or delete one of the rows"
            )
        if part and not name:
            error = error or (
                f"the column {split!r} has {_short(part)}: write train, val or test, or leave the cell empty"
            )
        if name and splits.setdefault(row.photo, name) != name:
            error = error or (
                f"{row.photo} is in two splits, {splits[row.photo]} and {name}: delete one of the rows"
            )
    remark = _MADE_UP.format(_names([row for row in rows if row.table in dummies])) if dummies else ""
    error = error and f"{names}: {error}"
    return LabelTable(names, known, bool(known or per_class), labels, splits, error, remark)


def _short(text: str) -> str:
    return repr(one_line(text, 40))


def _has_splits(key: str, cells: Sequence[str] | None) -> bool:
    """Return whether a column has splits; other titles than `split` may mean something else."""
    named = [bool(split_name(cell)) for cell in cells or () if cell.strip()]
    return any(named) if key == "split" else bool(named) and all(named)


def _dummies(rows: Sequence[_Row], cells: Sequence[str]) -> set[PurePosixPath]:
    """Return the test tables whose labels are made up: all the same, while others have several."""
    labels: dict[PurePosixPath, Counter[str]] = {}
    for row, cell in zip(rows, cells, strict=True):
        labels.setdefault(row.table, Counter())[cell.strip()] += 1
    same = {table for table, counts in labels.items() if len(counts) == 1 and counts.total() >= _DUMMIES}
    # The owner may have a table per class, or one with what was added later.
    made_up = {table for table in same if _split_of_table(table) == "test" and not labels[table][""]}
    return made_up if any(len(counts) > 1 for counts in labels.values()) else set()


def _from_column_per_class(columns: Mapping[str, Sequence[str]]) -> list[str] | None:
    """Return the class of each row that has exactly one yes; None if fewer than 90 % have."""
    yes = {
        title: [cell.strip().lower() in _YES for cell in cells]
        for title, cells in columns.items()
        if {cell.strip().lower() for cell in cells} <= _YES | _NO
    }
    found = [
        [title for title, is_it in zip(yes, row, strict=True) if is_it]
        for row in zip(*yes.values(), strict=True)
    ]
    classes = [row[0] if len(row) == 1 else "" for row in found]
    return classes if sum(map(bool, classes)) >= MATCHED * len(classes) and _is_label(classes) else None


def _is_label(values: Sequence[str]) -> bool:
    """Return whether these may be the classes of photos: not too many, and each more than once on average."""
    labels = [value for value in map(str.strip, values) if value]
    return 1 < len(set(labels)) <= min(MAX_CLASSES, len(labels) / 2)


def _splits_by_name(rows: Sequence[_Row]) -> list[str]:
    """Return the splits that the tables, or else all folders of photos, are named after; else empty texts."""
    by_table = {table: _split_of_table(table) for table in {row.table for row in rows}}
    if "train" in by_table.values():
        return [by_table[row.table] for row in rows]
    by_folder = [_split_of_folders(row.photo) for row in rows]
    return by_folder if "train" in by_folder and all(by_folder) else [""] * len(rows)
