"""WebP (RFC 9649): chunks of a RIFF file."""

import struct

from ml.model.formats import exif
from ml.model.formats.structure import PARTS, Structure, broken, too_many_parts, unpack

_KIND = "WEBP"
_LOSSY, _LOSSLESS, _EXTENDED, _ALPHA, _FRAME = b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANMF"
_ESSENTIAL = frozenset({_LOSSY, _LOSSLESS, _EXTENDED, _ALPHA, _FRAME, b"ANIM"})
_FLAGS = 0x12  # transparency and animation; the others announce metadata, which is left out
_EXIF_FLAG = 0x08
_EXIF_BYTES = 64 * 1024
_FRAME_BYTES = 512
"""An animation may have one more part for so many bytes."""


def inspect(data: bytes) -> Structure:
    """Return the structure of a WebP image, or of an animation's first frame; raises BrokenImageError."""
    chunks: dict[bytes, bytes] = {}  # the first of each kind that is kept
    orientation: int | None = None
    position = 12
    for _ in range(PARTS + len(data) // _FRAME_BYTES):
        if position + 8 > len(data):
            break
        name, length = struct.unpack_from("<4sI", data, position)
        if name in _ESSENTIAL and name not in chunks:
            chunks[name] = data[position : position + 8 + length + length % 2]
        elif name == b"EXIF" and orientation is None:
            orientation = exif.orientation(data[position + 8 : position + 8 + min(length, _EXIF_BYTES)])
        position += 8 + length + length % 2
        if len(chunks) == 1 and name in (_LOSSY, _LOSSLESS):
            break  # the simple format has no more chunks
    else:
        raise too_many_parts(_KIND)
    if header := chunks.get(_EXTENDED):
        flags, low, high, height_low, height_high = unpack(_KIND, "<B3xHBHB", header, 8)
        width, height = 1 + low + (high << 16), 1 + height_low + (height_high << 16)
        orientation = orientation if flags & _EXIF_FLAG else 1
        chunks[_EXTENDED] = header[:8] + bytes([flags & _FLAGS]) + header[9:]
    elif image := chunks.get(_LOSSY):
        width, height = (side & 0x3FFF for side in unpack(_KIND, "<HH", image, 14))
    elif image := chunks.get(_LOSSLESS):
        (sides,) = unpack(_KIND, "<I", image, 9)
        width, height = (sides & 0x3FFF) + 1, (sides >> 14 & 0x3FFF) + 1
    else:
        raise broken(_KIND)
    body = b"WEBP" + b"".join(chunks.values())
    # libwebp's memory for lossless images and transparency depends on more than the size. Pillow decodes
    # every WebP as an animation: two canvases, its bytes, and its image.
    lossy = chunks.keys() <= {_LOSSY, _EXTENDED}
    return Structure(
        _KIND,
        width,
        height,
        b"RIFF" + struct.pack("<I", len(body)) + body,
        pixel_bytes=16 if lossy else 18,
        bounded=lossy,
        orientation=orientation or 1,
    )
