"""Copies of the default model: other files with the same answers, and one whose classes are swapped."""

import json
import shutil
import zipfile
from pathlib import Path

from app.settings import EMBEDDED


def same(path: Path) -> Path:
    """Write a model with the same answers into another file."""
    shutil.copy(EMBEDDED, path)
    with zipfile.ZipFile(path, "a") as archive:
        archive.comment = path.name.encode()
    return path


def swapped(path: Path) -> Path:
    """Write a model that calls each class by the name of another one."""
    with zipfile.ZipFile(EMBEDDED) as good, zipfile.ZipFile(path, "w") as archive:
        for entry in good.infolist():
            content = good.read(entry)
            if entry.filename.endswith("model.json"):
                manifest = json.loads(content)
                content = json.dumps(manifest | {"classes": manifest["classes"][::-1]}).encode()
            archive.writestr(entry, content)
    return path
