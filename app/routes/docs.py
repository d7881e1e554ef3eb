"""`GET /openapi.json`, the description of the API, and `GET /docs`, Swagger UI for it."""

import functools
from importlib.resources import files
from pathlib import Path

from flask import Blueprint, Response, json
from werkzeug.exceptions import NotFound

from app.routes import assets
from app.service import current_service
from app.settings import Settings

_DOCUMENT = Path(__file__).parents[1] / "openapi.yaml"
_ASSETS = frozenset({"swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"})
"""The files of the package that /docs needs; no other is served."""

# Swagger UI draws its icons from data: URLs and sets style attributes (swagger-api/swagger-ui#5817).
_POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self' 'unsafe-inline'; img-src 'self' data:; "
    "connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
)
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>API</title>
<link rel="icon" href="docs/favicon-32x32.png">
<link rel="stylesheet" href="docs/swagger-ui.css">
<main id="ui"></main>
<noscript>This page needs JavaScript. The API is also described in <a
href="openapi.json">openapi.json</a></noscript> <script src="docs/swagger-ui-bundle.js"></script> <script
src="docs/start.js"></script> </html>
"""
_START = "SwaggerUIBundle({url: 'openapi.json', dom_id: '#ui', deepLinking: true, validatorUrl: null});\n"


blueprint = Blueprint("api_docs", __name__)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """Answer with the API's description, for this service and its model."""
    service = current_service()
    engine = service.model.engine
    labels = service.labels if engine else ()
    outputs = tuple(engine.outputs) if engine else None
    settings = service.settings
    document = _document(labels, outputs, _needs_key(settings), bool(settings.allowed_image_hosts))
    return Response(document, mimetype="application/json")


@blueprint.get("/docs")
def swagger_ui() -> Response:
    """Answer with Swagger UI, which shows the API's description."""
    return Response(_PAGE, mimetype="text/html", headers={"Content-Security-Policy": _POLICY})


@blueprint.get("/docs/<name>")
def asset(name: str) -> Response:
    """Answer with a file that Swagger UI consists of."""
    if name == "start.js":
        return Response(_START, mimetype="text/javascript")
    if name not in _ASSETS:
        raise NotFound
    response = assets.respond(Path(str(files("flask_swagger_ui"))) / "dist" / name)
    response.headers["Cache-Control"] = "public, max-age=86400"
    return response


def _needs_key(settings: Settings) -> tuple[tuple[str, str], ...]:
    """Return path and method of each endpoint that needs a key."""
    endpoints = (("/predict", "post"), ("/feedback", "post")) if settings.api_keys else ()
    return endpoints + ((("/metrics", "get"),) if settings.metrics_token else ())


@functools.cache
def _document(
    labels: tuple[str, ...],
    outputs: tuple[str, ...] | None,
    needs_key: tuple[tuple[str, str], ...],
    fetches: bool,
) -> str:
    """Return app/openapi.yaml as JSON, adapted to the model and to the keys.

    Args:
        labels: the labels that a photo can get; empty before the model is loaded.
        outputs: what the model returns, see `Engine.outputs`; None before it is loaded.
        needs_key: path and method of each endpoint that needs a key.
        fetches: whether images can be fetched from a URL.
    """
    import yaml  # only at the first request: most processes never get one

    document = yaml.safe_load(_DOCUMENT.read_text("utf-8"))
    schemas = document["components"]["schemas"]
    if labels:
        schemas["Label"]["enum"] = list(labels)
    if outputs is not None and "evidence" not in outputs:
        document["components"]["parameters"]["Explain"]["schema"]["enum"].remove(1)
    if outputs is not None:
        for name in ("Prediction", "Answer"):
            if "known" in outputs:
                schemas[name]["required"].append("known")
            else:
                del schemas[name]["properties"]["known"]
    if not fetches:
        del schemas["JsonPhotos"]["properties"]["url"]
        schemas["JsonPhotos"]["oneOf"].remove({"required": ["url"]})
    for path, method in needs_key:
        document["paths"][path][method]["security"].remove({})
    return json.dumps(document)
