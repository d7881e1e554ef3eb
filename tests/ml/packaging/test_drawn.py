"""The drawn test images: their thumbnails, and the answers to them."""

import base64
import io
from types import SimpleNamespace

import numpy as np
from PIL import Image

from ml.packaging.drawn import DRAWINGS, classify_drawn_images

DATA = SimpleNamespace(classes=("bright", "dark"), image_size=32, resize="center_crop")


class BrightnessModel:
    """Classifies bright images as the first class, and dark ones as unknown."""

    def run(self, images):
        bright = images.mean((1, 2, 3)) / 255
        return {"probabilities": np.stack([bright, 1 - bright], 1), "known": np.where(bright > 0.2, 0.5, 0.4)}


def test_each_drawing_has_a_thumbnail_and_an_answer():
    images = classify_drawn_images(BrightnessModel(), DATA)
    by_name = {image["name"]: image for image in images}
    assert list(by_name) == list(DRAWINGS)
    night, wall = by_name["a night"], by_name["a wall"]
    assert (night["label"], night["refused"], night["known"]) == ("dark", True, 0.4)
    assert (wall["label"], wall["refused"]) == ("bright", False)
    assert night["probability"] > 0.9
    thumbnails = [base64.b64decode(image["picture"]) for image in images]
    assert len(set(thumbnails)) == len(thumbnails)
    for thumbnail in thumbnails:
        with Image.open(io.BytesIO(thumbnail)) as image:
            assert (image.format, image.size) == ("PNG", (64, 64))
    assert sum(map(len, thumbnails)) < 16_000  # of the 64 KB of a card, in base64
    assert classify_drawn_images(BrightnessModel(), DATA) == images
