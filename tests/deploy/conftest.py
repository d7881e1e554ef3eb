"""A target with its stand-in, where an old version serves, and `python -m deploy` for it."""

from collections.abc import Iterator

import pytest

from tests.helpers.deploying import Deploying
from tests.helpers.places import PLACES, Place


@pytest.fixture
def target() -> str:
    """The target's name; test files set it."""
    raise LookupError("this test file must define the fixture `target`")


@pytest.fixture
def empty_place(target: str, tmp_path) -> Iterator[Place]:
    """A target where nothing serves yet."""
    place: Place = PLACES[target](tmp_path)
    with place.provider.serving():
        yield place


@pytest.fixture
def place(empty_place: Place) -> Place:
    empty_place.make("old")
    empty_place.provider.seen.clear()
    return empty_place


@pytest.fixture
def deploy(empty_place: Place, tmp_path) -> Iterator[Deploying]:
    with empty_place.deploying(tmp_path) as deploying:
        yield deploying
