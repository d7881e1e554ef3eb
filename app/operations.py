"""What operators and their machines ask: is it alive, is it ready, which model, which figures."""

from flask import Blueprint, Response, jsonify
from werkzeug.exceptions import NotFound, ServiceUnavailable

from app import auth
from app.admission import Admission, Task
from app.engine import labels
from app.metrics import Metrics
from app.model import Model
from app.settings import Settings

SERVICE = "cats-vs-dogs"


def blueprint(settings: Settings, model: Model, metrics: Metrics, admission: Admission[Task]) -> Blueprint:
    """Return the routes, bound to what they report on."""
    routes = Blueprint("operations", __name__)

    @routes.get("/health")
    def health() -> Response:
        return jsonify(status="ok", service=SERVICE)

    @routes.get("/ready")
    def ready() -> Response:
        model.require()
        if admission.draining:
            raise ServiceUnavailable("the service is stopping", retry_after=1)
        return jsonify(status="ready")

    @routes.get("/model")
    def describe() -> Response:
        engine = model.require()
        more = {
            "labels": labels(engine, settings.unknown),
            "explains": "evidence" in engine.outputs,
            "card": "/model/card" if engine.card else None,
            "sha256": engine.sha256,
            "engine": engine.name,
        }
        return jsonify(engine.manifest.to_dict() | more)

    @routes.get("/model/card")
    def card() -> Response:
        # Its Markdown as it is: whose page shows it decides what of it is safe there.
        if not (text := model.require().card):
            raise NotFound("this model has no card")
        return Response(text, content_type="text/markdown; charset=utf-8")

    may_scrape = auth.guard((settings.metrics_token,) if settings.metrics_token else ())

    @routes.get("/metrics")
    def exposition() -> Response:
        may_scrape()
        return Response(metrics.text(), content_type=metrics.content_type)

    return routes
