"""What a person decided about single photos: label_decisions.csv.

The label audit writes the file, and prepare obeys it.

A photo is named by the SHA-256 of its file, so a decision holds if the photo is renamed or others are added.
"""

import csv
import dataclasses
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal, get_args

from ml.data.photo import Photo
from ml.model.errors import PipelineError, one_line
from ml.model.files import replaced

PATH = Path("label_decisions.csv")
REASON = "audit"
"""Why `prepare` drops a photo that a person dropped."""

Action = Literal["keep", "relabel", "drop"]
ACTIONS: tuple[Action, ...] = get_args(Action)

_COLUMNS = ["sha256", "decision", "label", "path"]
_SHA256 = re.compile("[0-9a-f]{64}")
_MAX_BYTES = 256 << 20


@dataclasses.dataclass(frozen=True)
class Decision:
    """What a person decided about a photo.

    Attributes:
        sha256: of the photo's file.
        action: `keep` (its label is right), `relabel` or `drop`.
        label: the right class, if the action is `relabel`; else empty.
        path: class/file at that time; only people read it.
    """

    sha256: str
    action: Action
    label: str = ""
    path: str = ""


def load(path: Path = PATH) -> dict[str, Decision]:
    """Read the decisions, by SHA-256; none if there is no file.

    Raises:
        PipelineError: the file cannot be read, a line is invalid, or two lines are about the same photo.
    """
    try:
        if path.stat().st_size > _MAX_BYTES:
            raise PipelineError(f"{path} is larger than {_MAX_BYTES >> 20} MB: it is no file of decisions")
        text = path.read_bytes().decode("utf-8-sig")  # spreadsheets write a byte order mark
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path} is not UTF-8 text") from error
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    decisions: dict[str, Decision] = {}
    lines: dict[str, int] = {}
    try:
        for number, cells in enumerate(reader):
            line = reader.line_num
            if not number:
                if cells != _COLUMNS:
                    raise ValueError(f"expected the columns {','.join(_COLUMNS)}")
            elif cells:
                decision = _parsed(cells)
                if earlier := lines.setdefault(decision.sha256, line) - line:
                    raise ValueError(f"line {line + earlier} is about the same photo: delete one of them")
                decisions[decision.sha256] = decision
    except (csv.Error, ValueError) as error:
        raise PipelineError(f"{path}, line {max(reader.line_num, 1)}: {error}") from error
    return decisions


def _parsed(cells: Sequence[str]) -> Decision:
    if len(cells) != len(_COLUMNS):
        raise ValueError(f"expected {','.join(_COLUMNS)}, not {one_line(','.join(cells), 80)!r}")
    sha256, action, label, path = cells
    if not _SHA256.fullmatch(sha256):
        raise ValueError(f"{one_line(sha256, 80)!r} is not a SHA-256 in lower-case hexadecimal")
    if action not in ACTIONS:
        raise ValueError(f"the decision is one of {', '.join(ACTIONS)}, not {one_line(action, 80)!r}")
    if bool(label) != (action == "relabel"):
        raise ValueError(
            "relabel needs the right class as label" if not label else f"{action} takes no label"
        )
    return Decision(sha256, action, label, path)


def save(decisions: Iterable[Decision], path: Path = PATH) -> None:
    """Replace the file with these decisions, sorted by SHA-256 so that versions of it can be merged.

    Raises:
        OSError: the file cannot be written; the old one is unchanged.
    """
    buffer = io.StringIO(newline="")
    table = csv.writer(buffer, lineterminator="\n")
    table.writerow(_COLUMNS)
    table.writerows(dataclasses.astuple(each) for each in sorted(decisions, key=lambda each: each.sha256))
    with replaced(path) as file:
        file.write(buffer.getvalue().encode())


def apply(
    photos: Sequence[Photo], decisions: Mapping[str, Decision], classes: Sequence[str], path: Path = PATH
) -> tuple[list[Photo], dict[str, int]]:
    """Relabel and drop photos as a person decided.

    Splits are assigned before: a relabelled photo keeps its split, and no other photo moves.

    Args:
        photos: all photos, those that cannot be used included.
        decisions: by SHA-256.
        classes: all classes.
        path: of the decisions, for the error.

    Returns:
        The photos, and counts: photos by action, and decisions about photos that are `absent`.

    Raises:
        PipelineError: a photo is to get a label that is not a class.
    """
    result = []
    counts: Counter[str] = Counter(dict.fromkeys(ACTIONS, 0))
    for photo in photos:
        decision = None if photo.reason else decisions.get(photo.sha256)
        if decision and decision.action == "relabel" and decision.label not in classes:
            raise PipelineError(
                f"{path} relabels {photo.path} as {one_line(decision.label, 60)!r}, which is not a class; "
                f"there are {one_line(', '.join(classes), 200)}"
            )
        if decision:
            counts[decision.action] += 1
        if decision and decision.action == "drop":
            photo = photo.drop(REASON, f"dropped in {path}")
        elif decision and decision.action == "relabel":
            photo = dataclasses.replace(photo, relabelled=decision.label)
        result.append(photo)
    absent = len(decisions.keys() - {photo.sha256 for photo in photos})
    return result, dict(counts) | {"absent": absent}
