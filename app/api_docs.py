"""`GET /openapi.json`, the service's contract, and `GET /docs`, Swagger UI on it."""

import functools
from importlib.resources import files
from pathlib import Path

from flask import Blueprint, Response, json, send_from_directory
from werkzeug.exceptions import NotFound

from app.engine import labels
from app.model import Model
from app.settings import Settings

_DOCUMENT = Path(__file__).with_name("openapi.yaml")
_ASSETS = frozenset({"swagger-ui.css", "swagger-ui-bundle.js", "favicon-32x32.png"})
"""What /docs needs of the package's files; nothing else of it is served."""

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
<noscript>The same as a document: <a href="openapi.json">openapi.json</a></noscript>
<script src="docs/swagger-ui-bundle.js"></script>
<script src="docs/start.js"></script>
</html>
"""
_START = "SwaggerUIBundle({url: 'openapi.json', dom_id: '#ui', deepLinking: true, validatorUrl: null});\n"


def blueprint(settings: Settings, model: Model) -> Blueprint:
    """Return the routes, bound to what the document says of this very service."""
    routes = Blueprint("api_docs", __name__)

    @routes.get("/openapi.json")
    def document() -> Response:
        engine = model.engine
        allowed = labels(engine, settings.unknown) if engine else ()
        outputs = tuple(engine.outputs) if engine else None
        return Response(_document(allowed, outputs, _closed(settings)), mimetype="application/json")

    @routes.get("/docs")
    def page() -> Response:
        return Response(_PAGE, mimetype="text/html", headers={"Content-Security-Policy": _POLICY})

    @routes.get("/docs/<name>")
    def asset(name: str) -> Response:
        if name == "start.js":
            return Response(_START, mimetype="text/javascript")
        if name not in _ASSETS:
            raise NotFound
        response = send_from_directory(str(files("flask_swagger_ui") / "dist"), name)
        response.headers["Cache-Control"] = "public, max-age=86400"
        return response

    return routes


def _closed(settings: Settings) -> tuple[tuple[str, str], ...]:
    keys = (("/predict", "post"), ("/feedback", "post")) if settings.api_keys else ()
    return keys + ((("/metrics", "get"),) if settings.metrics_token else ())


@functools.cache
def _document(
    allowed: tuple[str, ...], outputs: tuple[str, ...] | None, closed: tuple[tuple[str, str], ...]
) -> str:
    """Return app/openapi.yaml as JSON, made exact by what the model can do.

    Args:
        allowed: the labels that it may answer, none before it is loaded.
        outputs: what it answers, see `Engine.outputs`; None before it is loaded.
        closed: paths and methods for which a key is a must.
    """
    import yaml  # at the first request, for most processes never have one

    document = yaml.safe_load(_DOCUMENT.read_text("utf-8"))
    schemas = document["components"]["schemas"]
    if allowed:
        schemas["Label"]["enum"] = list(allowed)
    if outputs is not None and "evidence" not in outputs:
        document["components"]["parameters"]["Explain"]["schema"]["enum"].remove(1)
    if outputs is not None:
        for name in ("Prediction", "Answer"):
            if "known" in outputs:
                schemas[name]["required"].append("known")
            else:
                del schemas[name]["properties"]["known"]
    for path, method in closed:
        document["paths"][path][method]["security"].remove({})
    return json.dumps(document)
