"""Learning rate and photo size over a run."""

import pytest

from ml.training.schedule import image_size_at, learning_rate_factor


def test_photos_grow_to_full_size():
    sizes = [image_size_at(epoch, 5, 96, 224) for epoch in range(5)]
    assert sizes == [96, 128, 160, 192, 224]
    assert {image_size_at(epoch, 7, 100, 224) % 32 for epoch in range(6)} == {100 % 32}
    assert [image_size_at(epoch, 3, 0, 224) for epoch in range(3)] == [224] * 3
    assert image_size_at(0, 1, 96, 224) == 224  # the only epoch is the last


def test_the_learning_rate_rises_and_then_falls_to_zero():
    factors = [learning_rate_factor(step, 100, 0.1) for step in range(101)]
    assert factors[:10] == sorted(factors[:10])
    assert factors[0] > 0
    assert max(factors) == factors[10] == 1
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] == pytest.approx(0, abs=1e-12)
