"""The training reference statistics in `model.pt`."""

import numpy as np
import pytest

from ml.model.reference import BOUNDS, COMPONENTS, brightness, describe
from tests.conftest import coloured


def test_brightness_is_that_of_the_whole_photo():
    assert brightness(np.zeros((224, 224, 3), np.uint8)) == 0
    assert brightness(np.full((224, 224, 3), 255, np.uint8)) == 1
    for seed in range(5):
        photo = coloured((120, 60, 30), 224, 224, seed)
        assert brightness(photo) == pytest.approx(photo.mean() / 255, abs=0.01)


def test_shares_up_to_each_bound():
    inputs = {
        "brightness": [0.05, 0.1, 0.55, 0.95],
        "aspect_ratio": [1.0, 1.0, 1.5, 3.0],
        "short_side_pixels": [16, 224, 300, 5000],
        "known": [0.3, 0.99, 0.992, 0.999],
        **{f"component_{number}": [-3, -0.84, 0.1, 2] for number in range(1, COMPONENTS + 1)},
    }
    found = describe(("cat", "dog", "owl"), inputs, [0.4, 0.99, 0.9995, 1.0], [0, 0, 0, 1])
    assert found["labels"] == {"cat": 0.75, "dog": 0.25, "owl": 0.0}
    assert found["brightness"]["0.1"] == 0.5  # a bound belongs to what is below it, as in a histogram
    assert found["brightness"]["0.9"] == 0.75
    assert found["aspect_ratio"]["1.45"] == 0.5
    assert (
        found["short_side_pixels"] | {"32.0": 0.25, "224.0": 0.5, "4096.0": 0.75}
        == found["short_side_pixels"]
    )
    assert found["confidence"]["0.999"] == 0.5
    assert (found["known"]["0.5"], found["known"]["0.99"]) == (0.25, 0.5)
    assert (
        found["component_4"] | {"-1.28": 0.25, "-0.84": 0.5, "0.0": 0.5, "1.28": 0.75} == found["component_4"]
    )
    assert {name: tuple(map(float, shares)) for name, shares in found.items() if name != "labels"} == BOUNDS
    for bounds in BOUNDS.values():  # of a histogram, whose buckets would be negative otherwise
        assert list(bounds) == sorted(bounds)
