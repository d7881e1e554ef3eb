"""Example photos for the page: those of the model's classes, if there are any."""

import functools
from collections.abc import Sequence
from pathlib import Path

_FOLDER = Path(__file__).parents[1] / "static" / "examples"


def of(classes: Sequence[str]) -> list[str]:
    """Return the path of a photo of each class; nothing unless every class has one."""
    paths = [_paths().get(name) for name in classes]
    return [path for path in paths if path] if all(paths) else []


@functools.cache
def _paths() -> dict[str, str]:
    return {path.stem: f"/static/examples/{path.name}" for path in sorted(_FOLDER.glob("*.jpg"))}
