"""Photos of something else: what is measured of a score, and what is drawn to show it."""

import base64
import io

import numpy as np
import pytest
from PIL import Image

from ml.evaluation.strangers import measure
from ml.metrics import auroc, wilson
from ml.packaging import drawn


def test_a_score_is_measured_on_both_kinds():
    real = np.array([0.9, 0.8, 0.5, 0.3, 0.7])
    others = np.array([0.1, 0.6, 0.2, 0.05])
    found = measure(0.9, real, others)
    assert found["refused"] == 0.2  # the threshold itself is not under it
    assert found["refused_others"] == 0.75
    assert found["auroc"] == pytest.approx(18 / 20)
    assert found["refused_high"] == wilson(1, 5, 0.9).high
    assert found["auroc_low"] == auroc(np.concatenate([real, others]), np.arange(9) < 5, 0.9).low
    assert measure(0.9, real).keys() == {"refused", "refused_low", "refused_high"}


class Eye:
    """Calls bright pictures the first class, and knows those that are not dark."""

    def run(self, images):
        bright = images.mean((1, 2, 3)) / 255
        return {"probabilities": np.stack([bright, 1 - bright], 1), "known": np.where(bright > 0.2, 0.5, 0.4)}


def test_drawings_show_what_is_said_of_them():
    found = drawn.ask(Eye(), ("bright", "dark"), 32, "center_crop")
    by_name = {one.name: one for one in found}
    assert list(by_name) == list(drawn.SITUATIONS)
    night, wall = by_name["a night"], by_name["a wall"]
    assert (night.label, night.refused, night.known) == ("dark", True, 0.4)
    assert (wall.label, wall.refused) == ("bright", False)
    assert night.probability > 0.9
    pictures = [base64.b64decode(one.picture) for one in found]
    assert len(set(pictures)) == len(pictures)
    for picture in pictures:
        with Image.open(io.BytesIO(picture)) as image:
            assert (image.format, image.size) == ("PNG", (64, 64))
    assert sum(map(len, pictures)) < 16_000  # of the 64 KB of a card, in base64
    assert drawn.ask(Eye(), ("bright", "dark"), 32, "center_crop") == found
