"""Images for schemathesis, which would send any bytes as one, and signed request ids for its feedback."""

import base64
import re
from typing import Any

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
    """Replace an id that matches the description by one that the service has signed."""
    body = case.body
    if case.operation.path == "/feedback" and isinstance(body, dict):
        label, signed = body.get("predicted"), body.get("request_id")
        if isinstance(label, str) and re.fullmatch(r"[A-Za-z0-9._-]{1,64}\.[A-Za-z0-9_-]{32}", str(signed)):
            body["request_id"] = _PREDICTIONS.sign("id", label.encode(errors="replace").decode())
