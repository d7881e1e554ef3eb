"""The result of looking at a photo's structure, and the tools of the modules that look."""

import struct
from dataclasses import dataclass
from typing import Any

from ml.model.errors import BrokenImageError

PARTS = 1000
"""Metadata segments, chunks or blocks that a photo may have. Real ones have at most a few hundred: a colour
profile in a JPEG takes up to 255."""

_COLUMN_BYTES, _ROW_BYTES = 24, 32
"""Memory beside the pixels: buffers of one row, and pointers to each row."""


@dataclass(frozen=True, slots=True)
class Structure:
    """What is known of a photo before it is decoded.

    Attributes:
        kind: Pillow's name of the format.
        width: of the image as it is stored, in pixels.
        height: of the image as it is stored, in pixels.
        essential: the file without what doesn't decide the pixels.
        pixel_bytes: memory for one decoded pixel, until the image is RGB without transparency.
        buffer_bytes: further memory of the decoder, whatever the scale.
        passes: how often the decoder goes over the image.
        scalable: whether the decoder can decode at 1/2, 1/4 or 1/8 of the width and height.
        bounded: whether the costs that these numbers give can't be exceeded by any file of this structure.
        orientation: EXIF orientation, 1 to 8.
    """

    kind: str
    width: int
    height: int
    essential: bytes
    pixel_bytes: int
    buffer_bytes: int = 0
    passes: int = 1
    scalable: bool = False
    bounded: bool = True
    orientation: int = 1

    def memory(self, size: int) -> int:
        """Return how much memory decoding takes, in bytes, if a square of `size` pixels is wanted."""
        scale = self.scale(size) if self.scalable else 1
        width, height = -(-self.width // scale), -(-self.height // scale)
        lines = width * _COLUMN_BYTES + height * _ROW_BYTES
        return width * height * self.pixel_bytes + lines + self.buffer_bytes

    def scale(self, size: int) -> int:
        """Return by what to divide width and height so that twice `size` is left for the resizing."""
        possible = min(self.width, self.height) // (2 * size)
        return next((scale for scale in (8, 4, 2) if possible >= scale), 1)


def broken(kind: str) -> BrokenImageError:
    """Return the error for a file that is cut short or damaged."""
    return BrokenImageError(f"a truncated or corrupt {kind} image")


def too_many_parts(kind: str) -> BrokenImageError:
    """Return the error for a file of more parts than any real photo has."""
    return BrokenImageError(f"a {kind} image of too many parts")


def unpack(kind: str, layout: str, data: bytes, position: int) -> tuple[Any, ...]:
    """Return what is at a position, see `struct`.

    Raises:
        BrokenImageError: the file ends before it.
    """
    try:
        return struct.unpack_from(layout, data, position)
    except struct.error:
        raise broken(kind) from None
