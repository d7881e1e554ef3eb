"""The app with a model for the classes red and blue."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from app.service import service_of
from app.settings import Settings
from tests.helpers.model_server import MODEL, ModelServer

if TYPE_CHECKING:
    from playwright.sync_api import Browser


@pytest.fixture
def make_app(make_model: Callable[..., Path]) -> Callable[..., Flask]:
    def make(**settings: object) -> Flask:
        settings.setdefault("model_url", make_model().as_uri())
        app = create_app(Settings(**settings))  # type: ignore[arg-type]
        service_of(app).model.load()
        return app

    return make


@pytest.fixture
def client(make_app: Callable[..., Flask]) -> FlaskClient:
    return make_app().test_client()


@pytest.fixture(scope="module")
def browser() -> Iterator["Browser"]:
    from tests.helpers.chromium import launched

    with launched() as browser:
        yield browser


@pytest.fixture
def server() -> Iterator[ModelServer]:
    with ModelServer().serving() as server:
        server.files["/model.pt"] = MODEL
        yield server


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"
