"""For operators and their machines: is the service alive, is it ready, which model, which metrics."""

from flask import Blueprint, Response, jsonify, request
from prometheus_client import CONTENT_TYPE_PLAIN_0_0_4, generate_latest
from werkzeug.exceptions import NotFound, ServiceUnavailable

from app.routes import assets, auth, documents, examples, markdown
from app.service import current_service
from ml.model import NAME, VERSION

blueprint = Blueprint("operations", __name__)


@blueprint.get("/health")
def health() -> Response:
    """Answer 200 as long as the process is alive."""
    return jsonify(status="ok", service=NAME)


@blueprint.get("/ready")
def ready() -> Response:
    """Answer 200 if predictions are answered: the model is loaded and the service isn't stopping."""
    service = current_service()
    _ = service.engine
    if service.admission.draining:
        raise ServiceUnavailable("the service is stopping", retry_after=1)
    return jsonify(status="ready")


@blueprint.get("/model")
def describe_model() -> Response:
    """Answer with what the model file says about itself, and what the service makes of it."""
    service = current_service()
    engine = service.engine
    about_service = {
        "labels": service.labels,
        "explains": "evidence" in engine.outputs,
        "card": "/model/card" if engine.card else None,
        "examples": [path for path, _ in examples.of(engine)],
        "sha256": engine.sha256,
        "engine": engine.name,
        "service_version": VERSION,
    }
    return jsonify(engine.manifest.to_dict() | about_service)


@blueprint.get("/model/card")
def model_card() -> Response:
    """Answer with the model card: a page if the client prefers HTML, otherwise the Markdown as it is."""
    if not (card := current_service().engine.card):
        raise NotFound("this model has no card")
    if request.accept_mimetypes.best_match(["text/markdown", "text/html"]) == "text/html":
        response = documents.respond(markdown.render(card), root="../")
    else:
        response = Response(card, content_type="text/markdown; charset=utf-8")
    response.vary.add("Accept")
    return response


@blueprint.get("/model/examples")
def model_examples() -> Response:
    """Answer with the path of each example photo, and the label that the model must give it."""
    photos = examples.of(current_service().engine)
    return jsonify(examples=[{"label": label, "path": path} for path, label in photos])


@blueprint.get("/model/examples/<int:number>/<name>")
def model_example(number: int, name: str) -> Response:
    """Answer with one of the example photos in the model file; any name will do."""
    engine = current_service().engine
    if number >= len(engine.examples):
        raise NotFound("this model has no such example photo")
    tag = f"{engine.sha256[:32]}-{number}"
    response = assets.respond_with(engine.examples[number].photo, tag, "image/jpeg")
    response.headers["Cache-Control"] = "no-cache"
    return response


@blueprint.get("/metrics")
def metrics() -> Response:
    """Answer with all metrics, if the request has METRICS_TOKEN or none is set."""
    auth.require_metrics_token()
    text = generate_latest(current_service().metrics.registry)
    return Response(text, content_type=CONTENT_TYPE_PLAIN_0_0_4)
