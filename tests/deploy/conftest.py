"""A target with its stand-in, where an old version serves, and `python -m deploy` for it."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.container import engine
from tests.helpers.deployed_containers import Machine, Models
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


@pytest.fixture(scope="module")
def models(image: str, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Models]:
    made = Models(image, tmp_path_factory.mktemp("models"))
    yield made
    engine("rmi", "--force", made.image, check=False)


@pytest.fixture
def machine(tmp_path: Path) -> Iterator[Machine]:
    machine = Machine(tmp_path)
    with machine.deploying:
        yield machine
    for name in machine.containers():
        engine("kill", name, check=False)
        engine("rm", "--force", "--volumes", name, check=False)
