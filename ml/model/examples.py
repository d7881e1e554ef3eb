"""Example photos in a `model.pt`: small JPEGs with the label that each of them must get.

They are the entries `extra/examples/CLASS.NUMBER.jpg`, where CLASS is the position of the class in `classes`.
The service offers them on its page, and the smoke test of a deployment sends them. They are checked like any
other input; one that is not as it should be is left out.
"""

import dataclasses
import re
import zipfile
from collections.abc import Sequence

from ml.model.errors import BundleError, ImageError
from ml.model.formats import inspect

MAX_EXAMPLES = 24
"""Largest number of examples in one file."""
MAX_BYTES = 64 * 1024
"""Largest example."""
MAX_SIDE = 1024
"""Largest width and height of an example, in pixels."""

FOLDER = "extra/examples"
_NAME = re.compile(rf"[^/]+/{FOLDER}/(0|[1-9][0-9]{{0,3}})\.(0|[1-9][0-9]?)\.jpg")


@dataclasses.dataclass(frozen=True)
class Example:
    """A photo and the label that it must get; `photo` is a JPEG file."""

    label: str
    photo: bytes


def entries(examples: Sequence[Example], classes: Sequence[str]) -> dict[str, bytes]:
    """Return the entries of the ZIP that hold the examples: content by name, without the root folder.

    Raises:
        BundleError: there are too many, or one is too large, not a JPEG, or of no class.
    """
    if len(examples) > MAX_EXAMPLES:
        raise BundleError(f"{len(examples)} example photos, but at most {MAX_EXAMPLES} are allowed")
    content: dict[str, bytes] = {}
    for example in examples:
        if example.label not in classes or not _is_usable(example.photo):
            raise BundleError(f"not usable as an example photo: a file for the class {example.label!r:.80}")
        number = sum(name.startswith(f"{FOLDER}/{classes.index(example.label)}.") for name in content)
        content[f"{FOLDER}/{classes.index(example.label)}.{number}.jpg"] = example.photo
    return content


def read(archive: zipfile.ZipFile, classes: Sequence[str]) -> tuple[Example, ...]:
    """Return the usable examples of a `model.pt`, the first ones of the classes first.

    Args:
        archive: the file, whose entries have been checked: none is compressed.
        classes: of the model.
    """
    named = []
    for entry in archive.infolist():
        matched = _NAME.fullmatch(entry.filename)
        if matched and int(matched[1]) < len(classes) and entry.file_size <= MAX_BYTES:
            named.append((int(matched[2]), int(matched[1]), entry))
    examples = []
    for _, label, entry in sorted(named, key=lambda one: one[:2])[:MAX_EXAMPLES]:
        try:
            photo = archive.read(entry)
        except Exception:  # noqa: BLE001, S112  (zipfile raises many kinds of errors; the model still works)
            continue
        if _is_usable(photo):
            examples.append(Example(classes[label], photo))
    return tuple(examples)


def _is_usable(photo: bytes) -> bool:
    if len(photo) > MAX_BYTES:
        return False
    try:
        structure = inspect(photo, MAX_SIDE**2, MAX_SIDE)
    except ImageError:
        return False
    return structure.kind == "JPEG" and max(structure.width, structure.height) <= MAX_SIDE
