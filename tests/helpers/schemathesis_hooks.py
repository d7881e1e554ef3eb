"""Images for schemathesis, which would send any bytes as one, and signed request ids for its feedback."""

import base64
import re
from typing import Any

import jsonschema
import numpy as np
import schemathesis
from hypothesis import strategies

from app.telemetry.feedback import SignedPredictions
from scripts.stress.heif import HEIC_INSTALLED
from tests.conftest import encode

FEEDBACK_SECRET = "known-to-both-sides"
_PREDICTIONS = SignedPredictions(FEEDBACK_SECRET)

FORMATS = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
    "image/avif": "AVIF",
}
_PHOTO = base64.b64encode(encode(np.zeros((40, 60, 3), np.uint8))).decode()
_KINDS = [{"name": {"const": "image"}, "datatype": {"const": "BYTES"}, "data": {"items": {"type": "string"}}}]
_KINDS += [
    {"name": {"const": "pixels"}, "datatype": {"const": "UINT8"}, "data": {"items": {"type": "integer"}}}
]
_TENSORS = jsonschema.Draft202012Validator(
    {
        "required": ["inputs"],
        "properties": {
            "parameters": {"type": ["object", "null"]},
            "inputs": {
                "type": "array",
                "minItems": 1,
                "maxItems": 1,
                "items": {
                    "required": ["name", "datatype", "shape", "data"],
                    "properties": {
                        "shape": {"type": "array", "minItems": 1, "items": {"type": "integer", "minimum": 1}},
                        "data": {"type": "array", "minItems": 1},
                        "parameters": {"type": ["object", "null"]},
                    },
                    "oneOf": [{"properties": kind} for kind in _KINDS],
                },
            },
        },
    }
)
"""Tensors with the right types; random shapes don't match random data."""


def images(form: str) -> strategies.SearchStrategy[bytes]:
    side = strategies.integers(1, 80)
    seed = strategies.integers(0, 1000)

    def image(width: int, height: int, seed: int) -> bytes:
        return encode(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8), form)

    return strategies.builds(image, side, side, seed)


if HEIC_INSTALLED:
    import pillow_heif

    pillow_heif.register_heif_opener()
    FORMATS["image/heic"] = "HEIF"

for media_type, form in FORMATS.items():
    schemathesis.openapi.media_type(media_type, images(form))
any_image = strategies.one_of([images(form) for form in FORMATS.values()])
schemathesis.openapi.media_type("application/octet-stream", any_image)
schemathesis.openapi.format("byte", any_image.map(lambda image: base64.b64encode(image).decode()))


@schemathesis.hook
def before_call(_: Any, case: Any, __: Any) -> None:
    """Replace valid ids by one that the service has signed, and valid tensors by a photo."""
    body = case.body
    if case.operation.path.endswith("/infer") and isinstance(body, dict) and _TENSORS.is_valid(body):
        tensor = {"name": "image", "datatype": "BYTES", "shape": [1], "data": [_PHOTO]}
        case.body = body | {"inputs": [tensor], "parameters": {}}
    if case.operation.path == "/feedback" and isinstance(body, dict):
        label, signed = body.get("predicted"), body.get("request_id")
        if isinstance(label, str) and re.fullmatch(r"[A-Za-z0-9._-]{1,64}\.[A-Za-z0-9_-]{36}", str(signed)):
            body["request_id"] = _PREDICTIONS.sign("id", label.encode(errors="replace").decode(), "ab" * 32)
