"""The internals of waitress that app.http depends on exist in the installed version."""

import importlib
import importlib.metadata
import re

import pytest
from waitress.adjustments import Adjustments
from waitress.parser import HTTPRequestParser

from app.http import INTERNALS, WAITRESS
from tests.helpers.paths import ROOT


def test_the_installed_version_is_the_pinned_one() -> None:
    assert importlib.metadata.version("waitress") == WAITRESS
    pinned = re.search(r"^waitress==(\S+)", (ROOT / "requirements.txt").read_text(), re.MULTILINE)
    assert pinned
    assert pinned[1] == WAITRESS


@pytest.mark.parametrize("name", INTERNALS)
def test_it_exists(name: str) -> None:
    module, *path = name.split(".")
    thing = importlib.import_module(f"waitress.{module}")
    for part in path:
        if thing is HTTPRequestParser:  # some of its attributes exist on instances only
            thing = HTTPRequestParser(Adjustments())
        thing = getattr(thing, part)


def test_everything_that_is_overridden_is_listed() -> None:
    for module in ("binding", "channel", "listener", "request", "tasks"):
        ours = importlib.import_module(f"app.http.{module}")
        for cls in vars(ours).values():
            if isinstance(cls, type) and cls.__module__ == ours.__name__:
                base = cls.__bases__[0]
                origin = f"{base.__module__.removeprefix('waitress.')}.{base.__name__}"
                for name in vars(cls):
                    if hasattr(base, name) and not name.startswith("_"):
                        assert f"{origin}.{name}" in INTERNALS
