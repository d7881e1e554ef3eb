"""What a photo's structure says about it before any of its pixels are decoded.

One module per format walks the file's segments, chunks, blocks or boxes. It finds the size, and what decoding
costs at most. It also leaves out what doesn't decide the pixels, such as comments, colour profiles and
previews, so that no decoder gets to see it; HEIF files, whose parts point at each other, stay whole. Each
walk is bounded: it costs at most some tens of milliseconds for 10 MB of the smallest possible parts.
"""

from types import ModuleType

from ml.model.errors import TooManyPixelsError, UnsupportedImageError
from ml.model.formats import bmp, gif, heif, isobmff, jpeg, png, webp
from ml.model.formats.structure import Structure

SUFFIXES = frozenset({
    ".jpg", ".jpeg", ".jpe", ".jfif", ".png", ".apng", ".webp", ".gif", ".bmp", ".avif", ".avifs", ".heic",
    ".heif", ".hif",
})  # fmt: skip
"""Usual suffixes of files that `inspect` accepts, in lower case."""
HEAD_BYTES = 64
"""Number of bytes from which `is_photo` tells the format."""
_SIGNATURES = {
    b"\xff\xd8\xff": jpeg,
    b"\x89PNG\r\n\x1a\n": png,
    b"GIF87a": gif,
    b"GIF89a": gif,
    b"BM": bmp,
}
_SCALED_SHARE = 4


def is_photo(head: bytes) -> bool:
    """Return whether a file that begins with these bytes is of an accepted format."""
    if head.startswith(b"BM"):  # which texts may begin with, too
        return head[6:10] == bytes(4)
    return _module(head) is not None


def inspect(data: bytes, max_pixels: int, size: int = 224) -> Structure:
    """Return the structure of an encoded image, whose format is judged by its first bytes.

    Args:
        data: the whole file.
        max_pixels: an image that states more is rejected. An image that is decoded at half its width and
            height, or less, may state four times as many.
        size: height and width of the square that is wanted, in pixels.

    Raises:
        UnsupportedImageError: the content is not of an accepted format.
        BrokenImageError: it is truncated or corrupt, or has absurdly many parts.
        TooManyPixelsError: it has more than `max_pixels` pixels.
    """
    module = _module(data)
    if module is None:
        raise UnsupportedImageError("not a JPEG, PNG, WebP, GIF, BMP, AVIF or HEIC image")
    structure: Structure = module.inspect(data)
    if structure.scalable and structure.scale(size) > 1:
        max_pixels *= _SCALED_SHARE
    if structure.width * structure.height > max_pixels:
        raise TooManyPixelsError(f"more pixels than the limit of {max_pixels:,}")
    return structure


def _module(data: bytes) -> ModuleType | None:
    """Return the module for a file's format, None if there is none."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return webp
    if not isobmff.brands(data).isdisjoint(heif.BRANDS):
        return heif
    return next((module for signature, module in _SIGNATURES.items() if data.startswith(signature)), None)
