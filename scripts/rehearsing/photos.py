"""Photos to train on, cut out of the two in tests/photos."""

import random
from pathlib import Path

from PIL import Image, ImageEnhance

ROOT = Path(__file__).resolve().parents[2]
_COUNT = 40
"""Of each class: the least with which training, validation and test mean something."""


def draw(target: Path, mixed_up: bool) -> None:
    """Fill a subfolder a class; `mixed_up` puts each photo into the other's."""
    chance = random.Random(mixed_up)  # noqa: S311
    names = ("cat", "dog")
    for name, folder in zip(names, names[::-1] if mixed_up else names, strict=True):
        (target / folder).mkdir(parents=True)
        with Image.open(ROOT / "tests" / "photos" / f"{name}.jpg") as photo:
            for number in range(_COUNT):
                path = target / folder / f"{number:03d}.jpg"
                _cut(photo, chance).save(path, quality=88)


def _cut(photo: Image.Image, chance: random.Random) -> Image.Image:
    side = int(min(photo.size) * chance.uniform(0.6, 1))
    left, top = chance.randint(0, photo.width - side), chance.randint(0, photo.height - side)
    part = photo.convert("RGB").crop((left, top, left + side, top + side))
    part = part.rotate(chance.uniform(-15, 15), Image.Resampling.BILINEAR)
    if chance.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return ImageEnhance.Brightness(part).enhance(chance.uniform(0.7, 1.3)).resize((256, 256))
