"""`POST /predict`: photos in, labels out."""

from flask import Blueprint, Response, g, jsonify, request
from werkzeug.exceptions import (
    HTTPException,
    RequestEntityTooLarge,
    ServiceUnavailable,
    UnprocessableEntity,
    UnsupportedMediaType,
)

from app import auth, problems, uploads
from app.admission import REFUSAL, RejectedError
from app.classify import PhotoError, Prediction, TooMuchWorkError, classify
from app.metrics import Metrics
from app.model import Model
from app.settings import Settings
from ml.image import UnsupportedImageError


def blueprint(settings: Settings, model: Model, metrics: Metrics) -> Blueprint:
    """Return the route, bound to what it works with."""
    routes = Blueprint("predict", __name__)
    routes.before_request(auth.guard(settings.api_keys))

    @routes.errorhandler(RejectedError)
    def _rejected(error: RejectedError) -> Response:
        metrics.rejected.labels(error.reason).inc()
        return problems.answer(ServiceUnavailable(f"{error}; try again", retry_after=1))

    @routes.post("/predict")
    def predict() -> Response:
        try:
            engine = model.require()
        except ServiceUnavailable:
            metrics.rejected.labels("not_ready").inc()
            raise
        if refusal := request.environ.get(REFUSAL):
            raise refusal

        with metrics.in_flight.track_inprogress():
            photos = uploads.read(request)
            try:
                predictions = classify(
                    engine, photos, settings.max_pixels, settings.request_timeout_s, metrics
                )
            except PhotoError as error:
                raise _problem(error, len(photos)) from error
            except TooMuchWorkError as error:
                raise RequestEntityTooLarge(f"{error}; send fewer at once") from error
        g.answers = _for_log(predictions)
        answers = [{"label": p.label, "probabilities": p.probabilities} for p in predictions]
        answer = answers[0] if len(answers) == 1 else {"predictions": answers}
        served_by = {"version": engine.manifest.version, "arch": engine.manifest.arch}
        return jsonify(answer | {"model": served_by, "request_id": g.request_id})

    return routes


def _problem(error: PhotoError, count: int) -> HTTPException:
    detail = f"file {error.number} of {count}: {error}" if count > 1 else str(error)
    if isinstance(error.reason, UnsupportedImageError):
        return UnsupportedMediaType(detail)
    return UnprocessableEntity(detail)


def _for_log(predictions: list[Prediction]) -> tuple[object, object]:
    """Return label and confidence, or a list of each where there were several photos."""
    labels = [prediction.label for prediction in predictions]
    confidences = [prediction.confidence for prediction in predictions]
    return (labels[0], confidences[0]) if len(predictions) == 1 else (labels, confidences)
