"""Example photos, each with the label that the model must give it.

They are those in the model file. If it has none and the service has its own for each class, they are those.
"""

import functools
from pathlib import Path
from urllib.parse import quote

from app.inference.engine import Engine

_FOLDER = Path(__file__).parents[1] / "static" / "examples"


def of(engine: Engine) -> list[tuple[str, str]]:
    """Return path and label of each example photo of the model."""
    if engine.examples:
        return [
            # The path ends with a name for people; the number alone identifies the photo.
            (f"/model/examples/{number}/{quote(example.label.replace('/', '_'))}.jpg", example.label)
            for number, example in enumerate(engine.examples)
        ]
    classes = engine.manifest.classes
    return [(_paths()[name], name) for name in classes] if _paths().keys() >= set(classes) else []


@functools.cache
def _paths() -> dict[str, str]:
    return {path.stem: f"/static/examples/{path.name}" for path in sorted(_FOLDER.glob("*.jpg"))}
