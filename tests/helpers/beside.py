"""Files beside the repository, in ../shared: photos that may not be published, and schemas of others."""

import json
import zipfile
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from tests.conftest import REQUIRE_ALL
from tests.helpers.paths import ROOT

SHARED = ROOT.parent / "shared"


def beside(name: str) -> Path:
    """The path of a file in ../shared; without it, the test is skipped, or fails where all is required."""
    path = SHARED / name
    if not path.exists():
        (pytest.fail if REQUIRE_ALL else pytest.skip)(f"{path.name} is no part of the repository")
    return path


def camera_photos() -> dict[str, bytes]:
    """Photos as cameras make them, by their paths; the folder of each is its class."""
    with zipfile.ZipFile(beside("data/originals.zip")) as archive:
        return {name: archive.read(name) for name in sorted(archive.namelist()) if name.endswith(".jpg")}


def check_custom_resource(document: dict[str, Any]) -> None:
    """Check an object against the schema of its kind, and that the schema rejects an unknown field."""
    group, _, version = document["apiVersion"].rpartition("/")
    text = beside(f"crds/{document['kind'].lower()}-{group}-{version}.json").read_text()
    # Python allows flags of a regular expression only at its start.
    validator = jsonschema.Draft7Validator(json.loads(text.replace('"^(?i)', '"(?i)^')))
    validator.validate(document)
    with pytest.raises(jsonschema.ValidationError):
        validator.validate(document | {"spec": document["spec"] | {"unknown": 1}})
