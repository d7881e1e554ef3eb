"""The random changes of training photos: what a photo of the same animal might look like as well.

Each draws from torch's random numbers, so that a seed repeats it.
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


def augmentation(params: Augment, size: int) -> v2.Compose:
    """Build the random changes, uint8 [3, H, W] to [3, size, size]; what is off costs nothing."""
    steps: list[torch.nn.Module] = []
    bilinear = v2.InterpolationMode.BILINEAR
    if params.crop_min_area < 1:
        scale = (params.crop_min_area, 1.0)
        steps.append(v2.RandomResizedCrop(size, scale=scale, ratio=(0.85, 1.18), interpolation=bilinear))
    else:
        steps.append(v2.Resize(size, interpolation=bilinear))
    if params.flip:
        steps.append(v2.RandomHorizontalFlip(params.flip))
    if params.rotation or params.translate or params.shear:
        steps.append(
            v2.RandomAffine(
                params.rotation,
                translate=(params.translate, params.translate) if params.translate else None,
                shear=params.shear or None,
                interpolation=bilinear,
                fill=127,
            )
        )
    if params.brightness or params.contrast or params.saturation or params.hue:
        steps.append(v2.ColorJitter(params.brightness, params.contrast, params.saturation, params.hue))
    if params.grey:
        steps.append(v2.RandomGrayscale(params.grey))
    if params.shrink:
        steps.append(v2.RandomApply([Shrunk()], params.shrink))
    if params.watermark:
        steps.append(v2.RandomApply([Watermarked()], params.watermark))
    if params.erasing:
        steps.append(v2.RandomErasing(params.erasing, scale=(0.02, 0.15), value=127))
    return v2.Compose(steps)


class Shrunk(nn.Module):
    """A photo [3, H, W] as it is after it was small: a quarter to three quarters of its height and width."""

    def forward(self, photo: Tensor) -> Tensor:
        """Shrink and grow it again."""
        size = list(photo.shape[-2:])
        small = [max(1, round(length * _between(0.25, 0.75))) for length in size]
        shrunk = functional.resize(photo, small, antialias=True)
        return cast(Tensor, functional.resize(shrunk, size, antialias=True))


class Watermarked(nn.Module):
    """A photo uint8 [3, H, W] with lines of letters over it that let it shine through."""

    def forward(self, photo: Tensor) -> Tensor:
        """Write over it."""
        height, width = photo.shape[-2:]
        alphabet = string.ascii_letters + string.digits + "   ©"
        text = "".join(alphabet[i] for i in torch.randint(len(alphabet), (80,)).tolist())
        font = ImageFont.load_default(max(6.0, height * _between(0.06, 0.2)))
        mask = Image.new("L", (width * 2, height * 2))
        draw = ImageDraw.Draw(mask)
        line, place = height * _between(0.12, 0.5), _between(0.0, 0.2) * height
        while place < mask.height:
            draw.text((-_between(0.0, width), place), text, 255, font)
            place += line
        turned = mask.rotate(_between(-45.0, 45.0), Image.Resampling.BILINEAR)
        left, top = width // 2, height // 2
        letters = np.asarray(turned.crop((left, top, left + width, top + height)))
        opacity = torch.from_numpy(letters.copy()).float() / 255 * _between(0.2, 0.7)
        ink = 255.0 * float(_between(0.0, 1.0) < 0.75)  # mostly white, else black
        return (
            torch.lerp(photo.float(), torch.full_like(photo, ink, dtype=torch.float32), opacity)
            .round()
            .to(torch.uint8)
        )


def _between(low: float, high: float) -> float:
    return low + (high - low) * float(torch.rand(()))
