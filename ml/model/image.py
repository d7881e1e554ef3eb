"""Preprocessing from image bytes to pixels, the same for training and serving; Pillow and NumPy only."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ml.model import decoder
from ml.model.decoder import RESIZES, Resize, to_rgb
from ml.model.errors import (
    BrokenImageError,
    ImageError,
    TooCostlyError,
    TooManyPixelsError,
    UnsupportedImageError,
)
from ml.model.formats import inspect
from ml.model.formats.structure import Structure

__all__ = [
    "DEFAULT_MAX_PIXELS",
    "RESIZES",
    "BrokenImageError",
    "Decoded",
    "ImageError",
    "Resize",
    "TooCostlyError",
    "TooManyPixelsError",
    "UnsupportedImageError",
    "decode",
    "inspect",
    "read",
    "to_rgb",
]

DEFAULT_MAX_PIXELS = 50_000_000

_SIDEWAYS = frozenset({5, 6, 7, 8})  # EXIF orientations


@dataclass(frozen=True, slots=True)
class Decoded:
    """A photo as the network gets it.

    Attributes:
        pixels: uint8 array [size, size, 3], RGB.
        width: of the whole upright photo, in pixels.
        height: of the whole upright photo, in pixels.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int

    @classmethod
    def of(cls, photo: Structure, pixels: NDArray[np.uint8]) -> "Decoded":
        """Return the pixels with the size of the upright photo."""
        turned = photo.orientation in _SIDEWAYS
        return cls(pixels, *((photo.height, photo.width) if turned else (photo.width, photo.height)))


def decode(
    data: bytes, size: int = 224, resize: Resize = "center_crop", max_pixels: int = DEFAULT_MAX_PIXELS
) -> NDArray[np.uint8]:
    """Return only the pixels of `read`."""
    return read(data, size, resize, max_pixels).pixels


def read(
    data: bytes, size: int = 224, resize: Resize = "center_crop", max_pixels: int = DEFAULT_MAX_PIXELS
) -> Decoded:
    """Decode an image and resize it to a square.

    Of an animation, the first frame counts. The orientation is applied: that of EXIF, and in HEIC and AVIF
    that of the image's properties. Transparency is put over white, 16 bits are reduced to 8, and the resizing
    uses Pillow's antialiased bilinear filter.

    Args:
        data: a JPEG, PNG, WebP, GIF, BMP, AVIF or HEIC file.
        size: height and width of the result, in pixels.
        resize: `center_crop` (the largest centred square) or `squash` (the whole image).
        max_pixels: an image whose header states more is rejected; see `ml.model.formats.inspect`.

    Raises:
        UnsupportedImageError: the content is not of an accepted format.
        BrokenImageError: it is truncated or corrupt.
        TooManyPixelsError: it has more pixels than `max_pixels` allows.
    """
    photo = inspect(data, max_pixels, size)
    return Decoded.of(photo, np.asarray(decoder.square(photo, size, resize)))
