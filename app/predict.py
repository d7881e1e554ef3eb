"""`POST /predict`: photos in, labels out."""

import dataclasses

from flask import Blueprint, Response, g, jsonify, request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import (
    BadRequest,
    HTTPException,
    RequestEntityTooLarge,
    ServiceUnavailable,
    UnprocessableEntity,
    UnsupportedMediaType,
)

from app import auth, problems, uploads
from app.admission import REFUSAL, RejectedError
from app.classify import NoEvidenceError, PhotoError, Prediction, TooMuchWorkError, classify
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

        explained = _asks_why(request.args)
        with metrics.in_flight.track_inprogress():
            photos = uploads.read(request)
            try:
                predictions = classify(engine, photos, settings, metrics, explained)
            except PhotoError as error:
                raise _problem(error, len(photos)) from error
            except NoEvidenceError as error:
                raise BadRequest(str(error)) from error
            except TooMuchWorkError as error:
                raise RequestEntityTooLarge(f"{error}; send fewer at once") from error
        g.answers = _for_log(predictions)
        answers = [_plain(prediction) for prediction in predictions]
        answer = answers[0] if len(answers) == 1 else {"predictions": answers}
        served_by = {"version": engine.manifest.version, "arch": engine.manifest.arch}
        return jsonify(answer | {"model": served_by, "request_id": g.request_id})

    return routes


def _asks_why(arguments: MultiDict[str, str]) -> bool:
    asked = arguments.get("explain", "0")
    if asked not in ("0", "1"):
        raise BadRequest("'explain' must be 0 or 1")
    return asked == "1"


def _plain(prediction: Prediction) -> dict[str, object]:
    answer: dict[str, object] = {"label": prediction.label, "probabilities": prediction.probabilities}
    if prediction.known is not None:
        answer["known"] = prediction.known
    if prediction.explanation is not None:
        answer["explanation"] = dataclasses.asdict(prediction.explanation)
    return answer


def _problem(error: PhotoError, count: int) -> HTTPException:
    detail = f"file {error.number} of {count}: {error}" if count > 1 else str(error)
    if isinstance(error.reason, UnsupportedImageError):
        return UnsupportedMediaType(detail)
    return UnprocessableEntity(detail)


def _for_log(predictions: list[Prediction]) -> dict[str, object]:
    """Return label, confidence and, where it is told, how known; a list of each for several photos."""
    names = ("label", "confidence", *(["known"] if predictions[0].known is not None else []))
    columns = {name: [getattr(prediction, name) for prediction in predictions] for name in names}
    return {name: column[0] if len(column) == 1 else column for name, column in columns.items()}
