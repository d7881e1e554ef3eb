"""What a photo's structure says about it before any of its pixels are decoded.

One module per format walks the file's segments, chunks or blocks. It finds the size, and what decoding costs
at most. It also leaves out everything that doesn't decide the pixels, such as comments, colour profiles and
previews, so that no decoder gets to see it. Each walk is bounded: it costs at most some tens of
milliseconds for 10 MB of the smallest possible parts.
"""

from ml.model.errors import TooManyPixelsError, UnsupportedImageError
from ml.model.formats import bmp, gif, jpeg, png, webp
from ml.model.formats.structure import Structure

_FORMATS = {
    b"\xff\xd8\xff": jpeg,
    b"\x89PNG\r\n\x1a\n": png,
    b"GIF87a": gif,
    b"GIF89a": gif,
    b"BM": bmp,
}


def inspect(data: bytes, max_pixels: int) -> Structure:
    """Return the structure of an encoded image, whose format is judged by its first bytes.

    Args:
        data: the whole file.
        max_pixels: an image that states more is rejected.

    Raises:
        UnsupportedImageError: the content is not of an accepted format.
        BrokenImageError: it is truncated or corrupt, or has absurdly many parts.
        TooManyPixelsError: it has more than `max_pixels` pixels.
    """
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        structure = webp.inspect(data)
    else:
        matches = [module for signature, module in _FORMATS.items() if data.startswith(signature)]
        if not matches:
            raise UnsupportedImageError("not a JPEG, PNG, WebP, GIF or BMP image")
        structure = matches[0].inspect(data)
    if structure.width * structure.height > max_pixels:
        raise TooManyPixelsError(f"more pixels than the limit of {max_pixels:,}")
    return structure
