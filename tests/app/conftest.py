"""The app around a model that tells red from blue."""

from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app import create_app
from app.settings import Settings


@pytest.fixture
def make_app(make_model: Callable[..., Path]) -> Callable[..., Flask]:
    def make(**settings: object) -> Flask:
        settings.setdefault("model_url", make_model().as_uri())
        app = create_app(Settings(**settings))  # type: ignore[arg-type]
        app.extensions["model"].load()
        return app

    return make


@pytest.fixture
def client(make_app: Callable[..., Flask]) -> FlaskClient:
    return make_app().test_client()
