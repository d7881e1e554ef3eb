"""`POST /predict`: photos in, labels out."""

import dataclasses

from flask import Blueprint, Response, g, jsonify, request
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import (
    BadRequest,
    InternalServerError,
    RequestEntityTooLarge,
    ServiceUnavailable,
    UnprocessableEntity,
    UnsupportedMediaType,
)

from app.http.admission import REJECTION
from app.inference.answers import Engine
from app.inference.classify import Prediction, TooMuchWorkError, classify
from app.routes import auth, uploads
from app.service import Service, current_service
from ml.model.errors import AnswerError
from ml.model.image import ImageError, UnsupportedImageError
from ml.model.sandbox.sandbox import NoWorkerError

blueprint = Blueprint("predict", __name__)
blueprint.before_request(auth.require_api_key)


@blueprint.post("/predict")
def predict() -> Response:
    """Answer with a prediction for each photo of the request."""
    service = current_service()
    engine = _admit(service)
    explained = _wants_explanation(request.args, engine)
    with service.metrics.in_flight.track_inprogress():
        photos = uploads.read(request)
        try:
            predictions = classify(
                engine, service.decoder, photos, service.settings, service.metrics, explained
            )
        except UnsupportedImageError as error:
            raise UnsupportedMediaType(str(error)) from error
        except ImageError as error:
            raise UnprocessableEntity(str(error)) from error
        except AnswerError as error:
            g.log_fields = {"error": str(error)}
            raise InternalServerError(str(error)) from error
        except TooMuchWorkError as error:
            raise RequestEntityTooLarge(f"{error}; send fewer photos per request") from error
        except NoWorkerError as error:
            service.metrics.rejected.labels("no_resources").inc()
            raise ServiceUnavailable(f"{error}; try again", retry_after=1) from error
    g.log_fields = _log_fields(predictions)
    model = {"model": {"version": engine.manifest.version, "arch": engine.manifest.arch}}
    documents = [_document(prediction) for prediction in predictions]
    # The id of a prediction is signed for its feedback; that of a request with several is only for logs.
    ids = [
        {"request_id": service.signed_predictions.sign(g.request_id, prediction.label)}
        for prediction in predictions
    ]
    if len(documents) == 1:
        return jsonify(documents[0] | model | ids[0])
    several = [document | signed for document, signed in zip(documents, ids, strict=True)]
    return jsonify({"predictions": several} | model | {"request_id": g.request_id})


def _admit(service: Service) -> Engine:
    """Return the engine if the request can be predicted.

    Raises:
        ServiceUnavailable: the model isn't loaded, or the request was rejected (see `app.http`); counted.
    """
    try:
        engine = service.engine
    except ServiceUnavailable:
        service.metrics.rejected.labels("not_ready").inc()
        raise
    if rejection := request.environ.get(REJECTION):
        service.metrics.rejected.labels(rejection.reason).inc()
        raise rejection
    return engine


def _wants_explanation(arguments: MultiDict[str, str], engine: Engine) -> bool:
    explain = arguments.get("explain", "0")
    if explain not in ("0", "1"):
        raise BadRequest("'explain' must be 0 or 1")
    if explain == "1" and "evidence" not in engine.outputs:
        raise BadRequest("this model can't explain its predictions")
    return explain == "1"


def _document(prediction: Prediction) -> dict[str, object]:
    """Return a prediction as it is sent, without its id."""
    document: dict[str, object] = {"label": prediction.label, "probabilities": prediction.probabilities}
    if prediction.known is not None:
        document["known"] = prediction.known
    if prediction.explanation is not None:
        document["explanation"] = dataclasses.asdict(prediction.explanation)
    return document


def _log_fields(predictions: list[Prediction]) -> dict[str, object]:
    """Return label, confidence and the OOD score if there is one; a list of each for several photos."""
    names = ("label", "confidence", *(["known"] if predictions[0].known is not None else []))
    columns = {name: [getattr(prediction, name) for prediction in predictions] for name in names}
    return {name: column[0] if len(column) == 1 else column for name, column in columns.items()}
