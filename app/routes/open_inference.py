"""The Open Inference Protocol, version 2, by REST: the contract of KServe, Triton and MLServer.

https://github.com/kserve/open-inference-protocol describes it. A prediction goes the way of `POST /predict`.
"""

import struct
from typing import Any

import numpy as np
from flask import Blueprint, Response, json, jsonify, request
from werkzeug.exceptions import BadRequest, NotFound

from app.http.gate import INFER, INFER_VERSION
from app.inference.classify import Prediction
from app.inference.engine import Engine
from app.photos import tensors
from app.routes import auth, operations, predict, uploads
from app.service import Service, current_service
from ml.model import NAME, VERSION

MODEL = NAME
_PLATFORMS = {"onnx": "onnxruntime_onnx", "torch": "pytorch_state_dict"}

blueprint = Blueprint("open_inference", __name__, url_prefix="/v2")


@blueprint.get("")
@blueprint.get("/")
def server() -> Response:
    """Answer with the server's metadata."""
    return jsonify(name=NAME, version=VERSION, extensions=["binary_tensor_data"])


@blueprint.get("/health/live")
def live() -> Response:
    """Answer 200 as long as the process is alive."""
    return jsonify(live=True)


@blueprint.get("/health/ready")
def ready() -> Response:
    """Answer 200 if predictions are answered."""
    operations.ready()
    return jsonify(live=True, ready=True)


@blueprint.get("/models/<model>")
@blueprint.get("/models/<model>/versions/<version>")
def describe(model: str, version: str | None = None) -> Response:
    """Answer with the model's metadata."""
    service = current_service()
    engine = service.engine
    _check(engine, model, version)
    manifest, size = engine.manifest, engine.manifest.image_size
    properties = {"classes": json.dumps(manifest.classes), "arch": manifest.arch, "sha256": engine.sha256}
    return jsonify(
        name=MODEL,
        versions=[manifest.version],
        platform=_PLATFORMS[engine.name],
        inputs=[
            {"name": tensors.IMAGE, "datatype": "BYTES", "shape": [-1]},
            {"name": tensors.PIXELS, "datatype": "UINT8", "shape": [-1, size, size, 3]},
        ],
        outputs=[
            {"name": name, "datatype": datatype, "shape": [-1, *shape]}
            for name, (datatype, shape) in _outputs(engine).items()
        ],
        properties=properties | {"inputs": f"a request has one: {tensors.IMAGE} or {tensors.PIXELS}"},
    )


@blueprint.get("/models/<model>/ready")
@blueprint.get("/models/<model>/versions/<version>/ready")
def model_ready(model: str, version: str | None = None) -> Response:
    """Answer 200 if the model's predictions are answered."""
    operations.ready()
    _check(current_service().engine, model, version)
    return jsonify(name=MODEL, ready=True)


@blueprint.post(INFER.removeprefix("/v2"))
@blueprint.post(INFER_VERSION.removeprefix("/v2"))
def infer(model: str, version: str | None = None) -> Response:
    """Answer with a prediction for each photo of the request."""
    auth.require_api_key()
    service = current_service()
    engine = predict.admit(service)
    _check(engine, model, version)
    with service.metrics.in_flight.track_inprogress():
        body = uploads.read_body(request, service.settings)
        asked = tensors.parse(body, request.headers.get(tensors.JSON_SIZE, ""), engine.manifest.image_size)
        kinds = _outputs(engine)
        wanted = asked.outputs or dict.fromkeys(kinds, asked.binary)
        if unknown := set(wanted) - set(kinds):
            raise BadRequest(f"there is no output {min(unknown)[:40]!r}; there are {', '.join(kinds)}")
        predictions = predict.answer(service, engine, asked.photos)
    outputs, blobs = [], []
    for name, binary in wanted.items():
        datatype, shape = kinds[name]
        data = _values(name, predictions, service)
        output: dict[str, Any] = {"name": name, "datatype": datatype, "shape": [len(predictions), *shape]}
        if binary:
            blobs.append(_packed(data))
            output["parameters"] = {"binary_data_size": len(blobs[-1])}
        else:
            output["data"] = data
        outputs.append(output)
    answer = {"model_name": MODEL, "model_version": engine.manifest.version, "outputs": outputs}
    response = jsonify(answer | ({} if asked.id is None else {"id": asked.id}))
    if blobs:
        text = response.get_data()
        response = Response(b"".join((text, *blobs)), mimetype="application/octet-stream")
        response.headers[tensors.JSON_SIZE] = str(len(text))
    return response


def _outputs(engine: Engine) -> dict[str, tuple[str, list[int]]]:
    """Return datatype and shape for one photo of each output."""
    outputs: dict[str, tuple[str, list[int]]] = {
        "probabilities": ("FP32", [len(engine.manifest.classes)]),
        "label": ("BYTES", []),
        "request_id": ("BYTES", []),
    }
    return outputs | ({"known": ("FP32", [])} if "known" in engine.outputs else {})


def _values(name: str, predictions: list[Prediction], service: Service) -> list[Any]:
    """Return an output of all photos as one list."""
    if name == "probabilities":
        return [value for each in predictions for value in each.probabilities.values()]
    if name == "request_id":  # for feedback, as in the answer of /predict
        return [predict.signed_id(service, each) for each in predictions]
    return [getattr(each, name) for each in predictions]


def _packed(data: list[Any]) -> bytes:
    """Return an output in binary form."""
    if isinstance(data[0], str):
        texts = [text.encode() for text in data]
        return b"".join(struct.pack("<I", len(text)) + text for text in texts)
    return np.asarray(data, "<f4").tobytes()


def _check(engine: Engine, model: str, version: str | None) -> None:
    """Raise NotFound unless it is the loaded model."""
    if model != MODEL or version not in (None, engine.manifest.version):
        raise NotFound(f"this service has the model {MODEL!r}, in version {engine.manifest.version!r} only")
