"""`GET /openapi.json`, the description of the API, and `GET /docs`, a page made from it."""

import functools
from pathlib import Path

from flask import Blueprint, Response, json, request
from markupsafe import escape

from app.http.gate import FEEDBACK, PREDICTIONS
from app.routes import api_markdown, documents, markdown
from app.service import current_service
from app.settings import Settings

_DOCUMENT = Path(__file__).parents[1] / "openapi.yaml"
_EXAMPLE_ADDRESS = "http://localhost:8080/"

blueprint = Blueprint("api_docs", __name__)


@blueprint.get("/openapi.json")
def openapi() -> Response:
    """Answer with the API's description, for this service and its model."""
    return Response(_description(), mimetype="application/json")


@blueprint.get("/docs")
def reference() -> Response:
    """Answer with the API's description as a page, without any script."""
    document = markdown.render(_reference(_description()))
    address = documents.address(request) or _EXAMPLE_ADDRESS
    return documents.respond(document, html=document.html.replace(_EXAMPLE_ADDRESS, escape(address)))


def _description() -> str:
    service = current_service()
    engine = service.model.engine
    labels = service.labels if engine else ()
    outputs = tuple(engine.outputs) if engine else None
    settings = service.settings
    return _document(labels, outputs, _needs_key(settings), bool(settings.allowed_image_hosts))


@functools.cache
def _reference(description: str) -> str:
    return api_markdown.reference(json.loads(description))


def _needs_key(settings: Settings) -> tuple[tuple[str, str], ...]:
    """Return path and method of each endpoint that needs a key."""
    paths = [route.replace("<", "{").replace(">", "}") for route in (*sorted(PREDICTIONS), FEEDBACK)]
    endpoints = tuple((path, "post") for path in paths) if settings.api_keys else ()
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
        # The first labels are the classes, of which there are at least two.
        for example in schemas["Answer"]["examples"]:
            values = example["probabilities"].values()
            example |= {"label": labels[0], "probabilities": dict(zip(labels, values, strict=False))}
    if outputs is not None and "evidence" not in outputs:
        document["components"]["parameters"]["Explain"]["schema"]["enum"].remove(1)
    if outputs is not None:
        for name in ("Prediction", "Answer"):
            if "known" in outputs:
                schemas[name]["required"].append("known")
            else:
                del schemas[name]["properties"]["known"]
                for example in schemas[name].get("examples", []):
                    del example["known"]
        if "known" not in outputs:
            schemas["OutputName"]["enum"].remove("known")
    if not fetches:
        del schemas["JsonPhotos"]["properties"]["url"]
        schemas["JsonPhotos"]["oneOf"].remove({"required": ["url"]})
    for path, method in needs_key:
        operation = document["paths"][path][method]
        operation["security"] = [one for one in operation["security"] if one]
    return json.dumps(document)
