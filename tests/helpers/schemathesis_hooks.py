"""Images for schemathesis, which would send any bytes as one."""

import numpy as np
import schemathesis
from hypothesis import strategies

from tests.conftest import encode

FORMATS = {
    "image/jpeg": "JPEG",
    "image/png": "PNG",
    "image/webp": "WEBP",
    "image/gif": "GIF",
    "image/bmp": "BMP",
}


def images(form: str) -> strategies.SearchStrategy[bytes]:
    side = strategies.integers(1, 80)
    seed = strategies.integers(0, 1000)

    def image(width: int, height: int, seed: int) -> bytes:
        return encode(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8), form)

    return strategies.builds(image, side, side, seed)


for media_type, form in FORMATS.items():
    schemathesis.openapi.media_type(media_type, images(form))
