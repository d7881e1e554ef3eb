"""`POST /predict`: photos in, labels out."""

import dataclasses
import re
from collections.abc import Sequence

import numpy as np
from flask import Blueprint, Response, g, jsonify, request
from numpy.typing import NDArray
from werkzeug.datastructures import MultiDict
from werkzeug.exceptions import (
    BadRequest,
    InternalServerError,
    RequestEntityTooLarge,
    ServiceUnavailable,
    UnprocessableEntity,
    UnsupportedMediaType,
)

from app.http.addresses import CLIENT
from app.http.admission import REJECTION
from app.inference.classify import Prediction, TooMuchWorkError, classify
from app.inference.engine import Engine
from app.routes import auth, uploads
from app.service import Service, current_service
from ml.model.errors import AnswerError
from ml.model.image import ImageError, UnsupportedImageError
from ml.model.sandbox.sandbox import NoWorkerError

_MAX_TOP = 1000
"""As many classes as a model can have."""

blueprint = Blueprint("predict", __name__)
blueprint.before_request(auth.require_api_key)


@blueprint.post("/predict")
def predict() -> Response:
    """Answer with a prediction for each photo of the request."""
    service = current_service()
    engine = admit(service)
    explained = _wants_explanation(request.args, engine)
    _may_be_kept(request.args.get("keep"))  # before the work
    top = _top(request.args)
    with service.metrics.in_flight.track_inprogress():
        photos = uploads.read(request, service.settings)
        allowed = [_may_be_kept(request.args.get("keep", photo.keep)) for photo in photos]
        images, sizes = [photo.data for photo in photos], [photo.size for photo in photos]
        predictions = answer(service, engine, images, explained, sizes)
    model = {"model": {"version": engine.manifest.version, "arch": engine.manifest.arch}}
    documents = [_document(prediction, top) for prediction in predictions]
    # The id of a prediction is signed for its feedback; that of a request with several is only for logs.
    ids = [signed_id(service, prediction) for prediction in predictions]
    client = request.environ.get(CLIENT)
    for photo, prediction, signed, keep in zip(photos, predictions, ids, allowed, strict=True):
        service.collector.offer(photo.data, prediction, engine, signed, client, keep)
    if len(documents) == 1:
        return jsonify(documents[0] | model | {"request_id": ids[0]})
    several = [document | {"request_id": signed} for document, signed in zip(documents, ids, strict=True)]
    return jsonify({"predictions": several} | model | {"request_id": g.request_id})


def answer(
    service: Service,
    engine: Engine,
    photos: Sequence[bytes | NDArray[np.uint8]],
    explained: bool = False,
    sizes: Sequence[tuple[int, int] | None] = (),
) -> list[Prediction]:
    """Return the predictions of `app.inference.classify`, and add them to the request's log line.

    Raises:
        HTTPException: a photo can't be used, or there is no answer.
    """
    try:
        predictions = classify(
            engine, service.decoder, photos, service.settings, service.metrics, explained, sizes
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
    return predictions


def signed_id(service: Service, prediction: Prediction) -> str:
    """Return the id with which a client of this request can give feedback on a prediction."""
    return service.signed_predictions.sign(g.request_id, prediction.label, service.engine.sha256)


def admit(service: Service) -> Engine:
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


def _may_be_kept(keep: str | None) -> bool | None:
    """Return whether a photo may be kept for later training; None: the client doesn't say so."""
    if keep not in (None, "0", "1"):
        raise BadRequest("'keep' must be 0 or 1")
    return None if keep is None else keep == "1"


def _top(arguments: MultiDict[str, str]) -> int | None:
    """Return how many classes an answer should have; None: all of them."""
    top = arguments.get("top")
    if top is None:
        return None
    if not re.fullmatch(r"\d{1,4}", top, re.ASCII) or not 1 <= int(top) <= _MAX_TOP:
        raise BadRequest(f"'top' must be a whole number from 1 to {_MAX_TOP}")
    return int(top)


def _document(prediction: Prediction, top: int | None) -> dict[str, object]:
    """Return a prediction as it is sent, without its id; with the `top` most likely classes, or with all."""
    probabilities = prediction.probabilities
    if top is not None:
        likeliest = sorted(probabilities, key=probabilities.__getitem__, reverse=True)[:top]
        probabilities = {name: probabilities[name] for name in likeliest}
    document: dict[str, object] = {"label": prediction.label, "probabilities": probabilities}
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
