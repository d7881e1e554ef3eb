"""`POST /feedback`: the correct label for a prediction, counted for live accuracy."""

from flask import Blueprint, request
from werkzeug.exceptions import BadRequest

from app.http.gate import SMALL_BODY_BYTES
from app.routes import auth
from app.service import current_service
from app.telemetry.feedback import NOT_SIGNED, InvalidIdError

blueprint = Blueprint("feedback", __name__)
blueprint.before_request(auth.require_api_key)


@blueprint.post("/feedback")
def feedback() -> tuple[str, int]:
    """Count one correct or wrong prediction of this service, once."""
    service = current_service()
    labels = service.labels
    request.max_content_length = SMALL_BODY_BYTES
    try:
        document = request.get_json()
    except (RecursionError, BadRequest):
        raise BadRequest("the body isn't valid JSON") from None
    if not isinstance(document, dict):
        raise BadRequest("the body must be a JSON object")
    predicted, actual = document.get("predicted"), document.get("actual")
    for name, label in (("predicted", predicted), ("actual", actual)):
        if not isinstance(label, str) or label not in labels:
            raise BadRequest(f"{name!r} must be one of {', '.join(labels)}")
    signed_id = document.get("request_id")
    if not isinstance(signed_id, str):
        raise BadRequest(NOT_SIGNED)
    try:
        counts = service.signed_predictions.accept(signed_id, str(predicted))
    except InvalidIdError as error:
        raise BadRequest(str(error)) from error
    if counts:
        service.metrics.feedback.labels(predicted, actual).inc()
        correct = str(predicted == actual).lower()
        service.metrics.judged.labels(correct).inc()
        service.metrics.judged_by_model.labels(service.signed_predictions.model_of(signed_id), correct).inc()
        service.collector.correct(signed_id, str(actual))
    return "", 204
