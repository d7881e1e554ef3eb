"""Perturbations: small changes of a photo, as editing and transfer make them, that keep its subject.

Each one takes the whole upright photo and returns an image file, which is then decoded like any other. The
file is lossless unless loss is the perturbation.
"""

import io
from collections.abc import Callable, Mapping
from functools import partial
from typing import Any

from PIL import Image, ImageDraw, ImageEnhance, ImageFont, ImageOps

from ml.model.decoder import upright, whole
from ml.model.image import DEFAULT_MAX_PIXELS, inspect

Perturbation = Callable[[Image.Image, int], bytes]
"""Takes a photo (RGB) and its number among the measured photos, and returns an image file."""

_MAX_SCALE = 4
"""Photos are first reduced to this many times the size of the network's input: more would only cost time."""
_LONGEST = 65_000  # pixels on a side; a JPEG has at most 65,500
_ORIENTATION = 0x0112
_STORED_AS = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_90,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_270,
}
"""EXIF orientation to the transposition in which an upright photo is stored."""


def decode_whole(data: bytes, size: int) -> Image.Image:
    """Decode a whole photo, upright and RGB; its shorter side is at most four times `size`.

    Raises:
        ImageError: the photo cannot be decoded.
    """
    structure = inspect(data, DEFAULT_MAX_PIXELS)
    photo = upright(whole(structure, (_MAX_SCALE * size, _MAX_SCALE * size)), structure.orientation)
    photo = _with_side(photo, min(_MAX_SCALE * size, *photo.size))
    photo.thumbnail((_LONGEST, _LONGEST))
    return photo


def _with_side(photo: Image.Image, side: int) -> Image.Image:
    """Resize so that the shorter side has this many pixels."""
    scale = side / min(photo.size)
    if scale == 1:
        return photo
    return photo.resize([max(1, round(length * scale)) for length in photo.size], Image.Resampling.LANCZOS)


def encode(picture: Image.Image, form: str = "BMP", **options: Any) -> bytes:
    """Return a picture as a file in a format of Pillow; the default is lossless."""
    buffer = io.BytesIO()
    picture.save(buffer, form, **options)
    return buffer.getvalue()


def _jpeg(photo: Image.Image, _: int, quality: int) -> bytes:
    return encode(photo, "JPEG", quality=quality)


def _rotated(photo: Image.Image, _: int, degrees: float) -> bytes:
    return encode(photo.rotate(degrees, Image.Resampling.BILINEAR))  # the corners become black


def _brightness(photo: Image.Image, _: int, factor: float) -> bytes:
    return encode(ImageEnhance.Brightness(photo).enhance(factor))


def _watermarked(photo: Image.Image, _: int) -> bytes:
    width, height = photo.size
    layer = Image.new("RGBA", photo.size)
    draw = ImageDraw.Draw(layer)
    font = ImageFont.load_default(max(8, min(photo.size) / 10))
    for line in range(4):
        for column in range(2):
            place = (width * (0.05 + 0.5 * column), height * (0.1 + 0.24 * line))
            draw.text(
                place, "© Sample", (255, 255, 255, 140), font, stroke_width=1, stroke_fill=(0, 0, 0, 90)
            )
    return encode(Image.alpha_composite(photo.convert("RGBA"), layer).convert("RGB"))


def _by_exif(photo: Image.Image, number: int) -> bytes:
    orientation = 2 + number % len(_STORED_AS)
    exif = Image.Exif()
    exif[_ORIENTATION] = orientation
    return encode(photo.transpose(_STORED_AS[orientation]), "JPEG", quality=95, exif=exif)


PERTURBATIONS: Mapping[str, Perturbation] = {
    "mirrored": lambda photo, _: encode(ImageOps.mirror(photo)),
    "turned_left": partial(_rotated, degrees=10),
    "turned_right": partial(_rotated, degrees=-10),
    "brighter": partial(_brightness, factor=1.5),
    "darker": partial(_brightness, factor=0.5),
    "jpeg_30": partial(_jpeg, quality=30),
    "jpeg_60": partial(_jpeg, quality=60),
    "jpeg_95": partial(_jpeg, quality=95),
    "half_size": lambda photo, _: encode(_with_side(photo, max(1, min(photo.size) // 2))),
    "side_96": lambda photo, _: encode(_with_side(photo, min(96, *photo.size))),
    "watermarked": _watermarked,
    "grey": lambda photo, _: encode(photo.convert("L")),
    "exif": _by_exif,
}
COLOUR_PERTURBATIONS = ("brighter", "darker", "grey")
"""Perturbations that are large if the classes differ mainly in colour or brightness."""
