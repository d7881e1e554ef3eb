"""Whatever kind of value the description of a model holds: the model is refused, or every route works."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

from app.model_source.source import ModelSourceError
from tests.app.routes.test_predict import send
from tests.conftest import RED, coloured, encode, manifest
from tests.ml.model.test_manifest import KINDS

PHOTO = encode(coloured(RED))
EMPTY = b"}."  # pickled


@pytest.mark.parametrize("kind", KINDS)
def test_the_model_is_refused_or_every_route_works(
    kind: str, make_model: Callable[..., Path], make_app: Callable[..., Flask]
) -> None:
    for field in manifest():
        if (
            app := loaded(make_app, make_model("changed.pt", data_pkl=EMPTY, **{field: KINDS[kind]}))
        ) is None:
            continue
        client = app.test_client()
        for path in ("/metrics", "/model", "/openapi.json", "/ready"):
            assert client.get(path).status_code == 200, (field, path)
        for text in (client.get("/model").text, send(client, PHOTO).text):
            assert "\\ud8" not in text
            json.loads(text, parse_constant=refuse)


def loaded(make_app: Callable[..., Flask], path: Path) -> Flask | None:
    try:
        return make_app(model_url=path.as_uri())
    except ModelSourceError as error:
        assert str(error).isprintable()  # noqa: PT017  (the other outcome is fine too)
        return None


def refuse(name: str) -> None:
    raise AssertionError(f"{name} in JSON")
