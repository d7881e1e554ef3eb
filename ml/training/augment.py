"""Augmentation: random changes that turn a training photo into another plausible photo of the same subject.

All of them draw from torch's random numbers, so that the same seed repeats them.
"""

import string
from typing import cast

import numpy as np
import torch
from PIL import Image, ImageDraw, ImageFont
from torch import Tensor, nn
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from ml.params import Augment


def augmentation(params: Augment, size: int) -> v2.Transform:
    """Build the transform of uint8 [3, H, W] to [3, size, size]; changes that are off are left out."""
    p, bilinear = params, v2.InterpolationMode.BILINEAR
    crop = v2.RandomResizedCrop(size, (p.crop_min_area, 1.0), ratio=(0.85, 1.18), interpolation=bilinear)
    affine = v2.RandomAffine(
        p.rotation,
        translate=(p.translate, p.translate) if p.translate else None,
        shear=p.shear or None,
        interpolation=bilinear,
        fill=127,
    )
    colours = (p.brightness, p.contrast, p.saturation, p.hue)
    steps: list[tuple[bool, nn.Module]] = [
        (True, crop if p.crop_min_area < 1 else v2.Resize(size, interpolation=bilinear)),
        (p.flip > 0, v2.RandomHorizontalFlip(p.flip)),
        (max(p.rotation, p.translate, p.shear) > 0, affine),
        (max(colours) > 0, v2.ColorJitter(*colours)),
        (p.grey > 0, v2.RandomGrayscale(p.grey)),
        (p.shrink > 0, v2.RandomApply([RandomShrink()], p.shrink)),
        (p.watermark > 0, v2.RandomApply([RandomWatermark()], p.watermark)),
        (p.erasing > 0, v2.RandomErasing(p.erasing, scale=(0.02, 0.15), value=127)),
    ]
    return v2.Compose([step for is_on, step in steps if is_on])


class RandomShrink(nn.Module):
    """Shrinks a photo [3, H, W] to 25 to 75 percent of its height and width, and enlarges it again."""

    def forward(self, photo: Tensor) -> Tensor:
        """Return the photo in its original size, with less detail."""
        size = list(photo.shape[-2:])
        small = [max(1, round(length * _uniform(0.25, 0.75))) for length in size]
        shrunk = functional.resize(photo, small, antialias=True)
        return cast(Tensor, functional.resize(shrunk, size, antialias=True))


class RandomWatermark(nn.Module):
    """Writes lines of translucent random text over a photo uint8 [3, H, W]."""

    def forward(self, photo: Tensor) -> Tensor:
        """Return the photo with the text over it."""
        height, width = photo.shape[-2:]
        alphabet = string.ascii_letters + string.digits + "   ©"
        text = "".join(alphabet[i] for i in torch.randint(len(alphabet), (80,)).tolist())
        font = ImageFont.load_default(max(6.0, height * _uniform(0.06, 0.2)))
        # Twice the photo's size, so that the rotated text still covers all of it.
        mask = Image.new("L", (width * 2, height * 2))
        draw = ImageDraw.Draw(mask)
        line_height, y = height * _uniform(0.12, 0.5), _uniform(0.0, 0.2) * height
        while y < mask.height:
            draw.text((-_uniform(0.0, width), y), text, 255, font)
            y += line_height
        rotated = mask.rotate(_uniform(-45.0, 45.0), Image.Resampling.BILINEAR)
        left, top = width // 2, height // 2
        letters = np.asarray(rotated.crop((left, top, left + width, top + height)))
        opacity = torch.from_numpy(letters.copy()).float() / 255 * _uniform(0.2, 0.7)
        white = float(_uniform(0.0, 1.0) < 0.75)  # otherwise black
        ink = torch.full_like(photo, 255.0 * white, dtype=torch.float32)
        return torch.lerp(photo.float(), ink, opacity).round().to(torch.uint8)


def _uniform(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))
