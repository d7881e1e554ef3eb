"""BMP (Windows bitmap): the header."""

from ml.model.formats.structure import Structure, broken, unpack

_KIND = "BMP"
_OS2_HEADER = 12
_RAW, _BIT_FIELDS = 0, 3


def inspect(data: bytes) -> Structure:
    """Return the structure of a BMP; raises BrokenImageError."""
    (header,) = unpack(_KIND, "<I", data, 14)
    compression = _RAW
    if header == _OS2_HEADER:
        width, height, _, depth = unpack(_KIND, "<HHHH", data, 18)
    else:
        width, height, _, depth, compression = unpack(_KIND, "<iiHHI", data, 18)
    if width <= 0 or not height:
        raise broken(_KIND)
    height = abs(height)  # a negative one is that of an image whose first row is the top one
    if compression in (_RAW, _BIT_FIELDS):
        return Structure(_KIND, width, height, data, pixel_bytes=8 if depth > 8 else 5)
    # Pillow expands run lengths in Python, in copies of the pixels.
    return Structure(_KIND, width, height, data, pixel_bytes=8, bounded=False)
