"""Augmentation: a different photo of the same subject, and the same photo again for the same seed."""

import numpy as np
import pytest
import torch
from PIL import Image

from ml.training.augment import RandomShrink, RandomWatermark, augmentation
from tests.ml.test_predict_command import CAT


@pytest.fixture(scope="module")
def photo() -> torch.Tensor:
    with Image.open(CAT) as image:
        pixels = np.array(image.convert("RGB").resize((96, 96)))
    return torch.from_numpy(pixels).permute(2, 0, 1)


@pytest.mark.parametrize("change", [RandomShrink(), RandomWatermark()])
def test_each_changes_a_photo_by_its_seed(photo, change):
    changed = []
    for seed in (1, 1, 2):
        torch.manual_seed(seed)
        changed.append(change(photo))
    assert all(one.shape == photo.shape and one.dtype == torch.uint8 for one in changed)
    assert torch.equal(changed[0], changed[1])
    assert not torch.equal(changed[0], changed[2])
    assert not torch.equal(changed[0], photo)
    distances = [(one.float() - photo.float()).abs().mean().item() for one in changed]
    assert all(0 < distance < 60 for distance in distances)  # still that photo


def test_a_watermark_is_translucent(photo):
    dark = torch.zeros_like(photo)
    shares = []
    for seed in range(20):
        torch.manual_seed(seed)
        written = RandomWatermark()(dark)
        shares.append((written > 0).float().mean().item())
        assert written.max() <= round(255 * 0.7)
    assert 0.02 < np.median(shares) < 0.6


def test_a_shrunk_photo_has_less_detail(photo):
    torch.manual_seed(0)
    noise = torch.randint(0, 256, photo.shape, dtype=torch.uint8)
    assert RandomShrink()(noise).float().std() < noise.float().std() / 2


def test_changes_that_are_off_are_left_out(params):
    off = params.recipe.augment.model_copy(
        update=dict.fromkeys(type(params.recipe.augment).model_fields, 0) | {"crop_min_area": 1.0}
    )
    assert len(augmentation(off, 96).transforms) == 1  # the size
    for name in ("grey", "shrink", "watermark", "erasing", "flip"):
        assert len(augmentation(off.model_copy(update={name: 0.5}), 96).transforms) == 2, name
