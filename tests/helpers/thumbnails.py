"""Small JPEG photos, made of those of the tests."""

from PIL import Image

from scripts.common.pictures import encoded
from tests.helpers.paths import ROOT


def cat_and_dog(side: int) -> list[bytes]:
    """Return a photo of a cat and one of a dog, whose longer side has this many pixels."""
    photos = []
    for name in ("cat", "dog"):
        with Image.open(ROOT / "tests" / "photos" / f"{name}.jpg") as photo:
            photo.thumbnail((side, side))
            photos.append(encoded(photo))
    return photos
