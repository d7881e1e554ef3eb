"""Training photos for a rehearsal, cut out of the two in tests/photos."""

import random
from pathlib import Path

from PIL import Image, ImageEnhance

ROOT = Path(__file__).resolve().parents[2]
_COUNT = 40  # per class; with fewer, some of the splits would be too small to measure anything


def write_photos(target: Path, mixed_up: bool) -> None:
    """Write one folder of photos per class; `mixed_up` puts the cats into dog/ and the dogs into cat/."""
    rng = random.Random(mixed_up)  # noqa: S311
    names = ("cat", "dog")
    for name, folder in zip(names, names[::-1] if mixed_up else names, strict=True):
        (target / folder).mkdir(parents=True)
        with Image.open(ROOT / "tests" / "photos" / f"{name}.jpg") as photo:
            for number in range(_COUNT):
                path = target / folder / f"{number:03d}.jpg"
                _random_part(photo, rng).save(path, quality=88)


def _random_part(photo: Image.Image, rng: random.Random) -> Image.Image:
    side = int(min(photo.size) * rng.uniform(0.6, 1))
    left, top = rng.randint(0, photo.width - side), rng.randint(0, photo.height - side)
    part = photo.convert("RGB").crop((left, top, left + side, top + side))
    part = part.rotate(rng.uniform(-15, 15), Image.Resampling.BILINEAR)
    if rng.random() < 0.5:
        part = part.transpose(Image.Transpose.FLIP_LEFT_RIGHT)
    return ImageEnhance.Brightness(part).enhance(rng.uniform(0.7, 1.3)).resize((256, 256))
