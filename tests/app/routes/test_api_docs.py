"""The API's description, and whether the service matches it."""

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.http.gate import INFER
from app.service import service_of
from tests.conftest import RED, coloured, encode
from tests.helpers.graphs import KNOWN, telling_graph
from tests.helpers.paths import ROOT
from tests.helpers.schemathesis_hooks import FEEDBACK_SECRET
from tests.helpers.service import Service, running


def schemathesis(service: Service, config: Path | None = None) -> str:
    done = subprocess.run(
        [
            Path(sys.executable).with_name("schemathesis"),
            *(("--config-file", config) if config else ()),
            "run",
            f"http://127.0.0.1:{service.port}/openapi.json",
            *("--seed", "1", "--max-examples", "40", "--no-color"),
        ],
        cwd=ROOT,
        env=os.environ | {"SCHEMATHESIS_HOOKS": "tests.helpers.schemathesis_hooks"},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def answers(service: Service, route: str, method: str = "POST") -> dict[str, float]:
    """Return how many responses of each status a route has given."""
    with urllib.request.urlopen(f"http://127.0.0.1:{service.port}/metrics") as response:
        text = response.read().decode()
    pattern = rf'^http_requests_total\{{method="{method}",route="{route}",status="(\d+)"\}} (\S+)$'
    found = re.findall(pattern, text, re.MULTILINE)
    return {status: float(count) for status, count in found if float(count)}


@pytest.mark.parametrize("tells", [False, True])
def test_the_service_matches_its_description(
    make_model: Callable[..., Path], tmp_path: Path, tells: bool
) -> None:
    """With a model that has only probabilities, and with one that has all outputs, where a key is needed."""
    optional = {"card": b"# A card", "examples": {"0.0": encode(coloured(RED))}}
    all_of_it = {"graph": telling_graph(), "known": KNOWN, **optional} if tells else {}
    settings = {"MODEL_URL": make_model(**all_of_it).as_uri(), "API_KEYS": "open-sesame" if tells else ""}
    config = tmp_path / "schemathesis.toml"
    config.write_text(
        '[auth.openapi.apiKey]\napi_key = "open-sesame"\n[auth.openapi.bearer]\nbearer = "open-sesame"\n'
    )
    with running(LOG_LEVEL="error", FEEDBACK_SECRET=FEEDBACK_SECRET, **settings) as service:
        service.wait()
        schemathesis(service, config if tells else None)
        # It would prove little if nothing valid had been sent, or nothing else.
        predictions = answers(service, "/predict")
        assert predictions["200"] > 20
        assert {"400", "415"} <= set(predictions)
        assert ("401" in predictions) == tells  # it leaves the key out now and then, to see that it is needed
        assert {"204", "400", "415"} <= set(answers(service, "/feedback"))
        assert answers(service, INFER)["200"] > 5
        assert {"400", "404"} <= set(answers(service, INFER))
        assert set(answers(service, "/model/card", "GET")) - {"401"} == {"200" if tells else "404"}


def test_the_description_has_every_route(make_app: Callable[..., Flask]) -> None:
    app = make_app()
    pages = {"/", "/docs", "/manifest.webmanifest", "/openapi.json", "/static/<path:filename>"}
    routes = {
        (re.sub(r"<(?:\w+:)?(\w+)>", r"{\1}", rule.rule), method.lower())
        for rule in app.url_map.iter_rules()
        for method in rule.methods or ()
        if rule.rule not in pages and method not in ("HEAD", "OPTIONS")
    }
    document = app.test_client().get("/openapi.json").get_json()
    assert {(path, method) for path, item in document["paths"].items() for method in item} == routes


def test_the_description_lists_the_classes_once_a_model_is_loaded(
    make_app: Callable[..., Flask], client: FlaskClient
) -> None:
    def label(client: FlaskClient) -> dict:
        return client.get("/openapi.json").get_json()["components"]["schemas"]["Label"]

    assert label(client)["enum"] == ["red", "blue"]
    schemas = client.get("/openapi.json").get_json()["components"]["schemas"]
    (example,) = schemas["Answer"]["examples"]
    assert (example["label"], list(example["probabilities"])) == ("red", ["red", "blue"])
    app = make_app()
    service_of(app).model.engine = None
    assert "enum" not in label(app.test_client())


def test_the_description_matches_the_model(
    make_app: Callable[..., Flask], make_model: Callable[..., Path]
) -> None:
    def parts(**settings: object) -> tuple[dict, dict]:
        components = make_app(**settings).test_client().get("/openapi.json").get_json()["components"]
        return components["schemas"], components["parameters"]["Explain"]["schema"]

    schemas, explain = parts()
    assert explain["enum"] == [0]
    for name in ("Prediction", "Answer"):
        assert "known" not in schemas[name]["properties"]
        assert not any("known" in example for example in schemas[name].get("examples", []))
    telling = make_model("telling.pt", graph=telling_graph(), known=KNOWN).as_uri()
    schemas, explain = parts(model_url=telling)
    assert explain["enum"] == [0, 1]
    assert schemas["Label"]["enum"] == ["red", "blue", "unknown"]
    for name in ("Prediction", "Answer"):
        assert "known" in schemas[name]["required"]
    schemas, _ = parts(model_url=telling, unknown=False)
    assert schemas["Label"]["enum"] == ["red", "blue"]
    assert "known" in schemas["Answer"]["required"]


def test_keys_are_required_only_if_there_are_any(make_app: Callable[..., Flask]) -> None:
    for keys, optional in (((), True), (("k",), False)):
        document = make_app(api_keys=keys).test_client().get("/openapi.json").get_json()
        for path in ("/predict", "/feedback", "/v2/models/{model}/infer"):
            assert ({} in document["paths"][path]["post"]["security"]) == optional


def test_a_url_is_described_only_if_images_can_be_fetched(make_app: Callable[..., Flask]) -> None:
    for hosts in ((), (("https", "photos.example", 443),)):
        document = make_app(allowed_image_hosts=hosts).test_client().get("/openapi.json").get_json()
        schema = document["components"]["schemas"]["JsonPhotos"]
        assert ("url" in schema["properties"]) == bool(hosts)
        assert ({"required": ["url"]} in schema["oneOf"]) == bool(hosts)
