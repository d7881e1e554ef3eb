"""PNG (W3C, third edition): chunks."""

import struct

from ml.model.formats import exif
from ml.model.formats.structure import PARTS, Structure, broken, too_many_parts, unpack

_KIND = "PNG"
_START = 8
_ESSENTIAL = frozenset({b"IHDR", b"PLTE", b"tRNS", b"IDAT"})
_END = b"\0\0\0\0IEND\xaeB`\x82"
_CHUNK_BYTES = 128
"""A PNG may have one more chunk for each so many of its bytes: encoders write image data in chunks of 4,096
bytes or more."""
_EXIF_BYTES = 64 * 1024
_GREY, _RGB, _PALETTE, _GREY_ALPHA, _RGB_ALPHA = 0, 2, 3, 4, 6
_PIXEL_BYTES = {_GREY: 5, _RGB: 4, _PALETTE: 5, _GREY_ALPHA: 8, _RGB_ALPHA: 8}
"""Of Pillow's image and the RGB image that it becomes."""
_GREY_16_BYTES = 7  # its image has 4 bytes a pixel in between
_COLOUR_KEY_BYTES = {8: 4, 16: 14}  # a second image, and masks, by the depth of what has a transparent colour


def inspect(data: bytes) -> Structure:
    """Return the structure of a PNG; raises BrokenImageError."""
    width, height, depth, colour = unpack(_KIND, ">IIBB", data, _START + 8)
    if data[_START + 4 : _START + 8] != b"IHDR" or not width or not height or colour not in _PIXEL_BYTES:
        raise broken(_KIND)
    kept: list[tuple[int, int]] = []  # start and end of what is kept
    orientation: int | None = None
    transparent, position = False, _START
    for _ in range(PARTS + len(data) // _CHUNK_BYTES):
        if position + 8 > len(data):
            break  # the decoder says whether the pixels are complete
        length, name = struct.unpack_from(">I4s", data, position)
        end = min(position + 12 + length, len(data))
        if name == b"IHDR" and position != _START:
            raise broken(_KIND)
        if name in _ESSENTIAL:
            transparent = transparent or name == b"tRNS"
            if kept and kept[-1][1] == position:
                kept[-1] = kept[-1][0], end
            else:
                kept.append((position, end))
        elif name == b"eXIf" and orientation is None:
            orientation = exif.orientation(data[position + 8 : min(end - 4, position + 8 + _EXIF_BYTES)])
        position = end
        if name == b"IEND":
            break
    else:
        raise too_many_parts(_KIND)
    essential = b"".join([data[:_START], *(data[start:end] for start, end in kept), _END])
    pixel_bytes = _GREY_16_BYTES if (depth, colour) == (16, _GREY) else _PIXEL_BYTES[colour]
    if transparent and colour not in (_GREY_ALPHA, _RGB_ALPHA):
        pixel_bytes += _COLOUR_KEY_BYTES[16 if (depth, colour) == (16, _RGB) else 8]
    return Structure(_KIND, width, height, essential, pixel_bytes, orientation=orientation or 1)
