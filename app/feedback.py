"""`POST /feedback`: what the label should have been, counted for live accuracy."""

from flask import Blueprint, request
from werkzeug.exceptions import BadRequest

from app import auth
from app.engine import labels
from app.metrics import Metrics
from app.model import Model
from app.settings import Settings

_MAX_BYTES = 4096


def blueprint(settings: Settings, model: Model, metrics: Metrics) -> Blueprint:
    """Return the route, bound to what it works with."""
    routes = Blueprint("feedback", __name__)
    routes.before_request(auth.guard(settings.api_keys))

    @routes.post("/feedback")
    def feedback() -> tuple[str, int]:
        allowed = labels(model.require(), settings.unknown)
        request.max_content_length = _MAX_BYTES
        try:
            told = request.get_json()
        except RecursionError:
            raise BadRequest("the body is no usable JSON") from None
        if not isinstance(told, dict):
            raise BadRequest("the body must be a JSON object")
        judged = []
        for name in ("predicted", "actual"):
            label = told.get(name)
            if not isinstance(label, str) or label not in allowed:
                raise BadRequest(f"{name!r} must be one of {', '.join(allowed)}")
            judged.append(label)
        if not isinstance(told.get("request_id", ""), str):
            raise BadRequest("'request_id' must be a string")
        metrics.feedback.labels(*judged).inc()
        metrics.judged.labels(str(judged[0] == judged[1]).lower()).inc()
        return "", 204

    return routes
