"""BMP (Windows and OS/2 bitmaps): the headers, in all their versions.

What is handed to the decoder (`ml.model.bitmap`) is not the file, but one header of our own, the palette and
the pixels, so that it needn't know the versions.
"""

import struct
from typing import NamedTuple, Self

from ml.model.errors import UnsupportedImageError
from ml.model.formats.structure import Structure, broken, unpack

KIND = "BMP"
RAW, RUNS_8, RUNS_4, BIT_FIELDS, _JPEG, _PNG, _ALPHA_BIT_FIELDS, RUNS_24 = range(8)
_OS2_RUNS_24 = 4  # OS/2 numbers it otherwise
_OS2_HEADER = 12
_WINDOWS_HEADERS = frozenset({40, 52, 56, 108, 124})
_FILE_HEADER = 14
_INFO = "<IiiHHIIiiII"
_INFO_BYTES = struct.calcsize(_INFO)
_DEPTHS = {RAW: {1, 2, 4, 8, 16, 24, 32}, RUNS_8: {8}, RUNS_4: {4}, BIT_FIELDS: {16, 24, 32}, RUNS_24: {24}}
_MASKS = {16: (0x7C00, 0x3E0, 0x1F, 0), 24: (0xFF0000, 0xFF00, 0xFF, 0), 32: (0xFF0000, 0xFF00, 0xFF, 0)}
"""Of red, green, blue and transparency in a pixel, unless the file has others."""


_LAYOUT = struct.Struct("<II?BB4I")


class Header(NamedTuple):
    """What the decoder needs to know.

    Attributes:
        width: in pixels.
        height: in pixels.
        top_down: whether the first row is the top one.
        depth: bits of a pixel.
        compression: RAW, RUNS_4, RUNS_8, RUNS_24 or BIT_FIELDS.
        masks: bits of red, green, blue and transparency in a pixel of BIT_FIELDS.
    """

    width: int
    height: int
    top_down: bool
    depth: int
    compression: int
    masks: tuple[int, int, int, int]

    def pack(self) -> bytes:
        """Return the header as bytes."""
        return _LAYOUT.pack(*self[:5], *self.masks)

    @classmethod
    def unpack(cls, data: bytes) -> tuple[Self, bytes, memoryview]:
        """Return the header, the palette (4 bytes a colour: blue, green, red, unused), and the pixels."""
        width, height, top_down, depth, compression, *masks = _LAYOUT.unpack_from(data)
        red, green, blue, alpha = masks
        header = cls(width, height, top_down, depth, compression, (red, green, blue, alpha))
        palette_end = _LAYOUT.size + (4 << header.depth if header.depth <= 8 else 0)
        return header, data[_LAYOUT.size : palette_end], memoryview(data)[palette_end:]


def inspect(data: bytes) -> Structure:
    """Return the structure of a BMP.

    Raises:
        BrokenImageError: it is truncated or corrupt.
        UnsupportedImageError: it is of a kind that browsers don't show either.
    """
    (header_bytes,) = unpack(KIND, "<I", data, _FILE_HEADER)
    (offset,) = unpack(KIND, "<I", data, 10)
    end, colour_bytes = _FILE_HEADER + header_bytes, 4
    compression = colours = 0
    if header_bytes == _OS2_HEADER:
        width, height, _, depth = unpack(KIND, "<HHHH", data, 18)
        colour_bytes = 3
    elif header_bytes in _WINDOWS_HEADERS or 16 <= header_bytes <= 64:
        # Version 2 of OS/2 may leave out any number of the last fields.
        fields = data[_FILE_HEADER : min(end, len(data))][:_INFO_BYTES].ljust(_INFO_BYTES, b"\0")
        _, width, height, _, depth, compression, _, _, _, colours, _ = struct.unpack(_INFO, fields)
        if header_bytes not in _WINDOWS_HEADERS and compression >= BIT_FIELDS:
            if (compression, depth) != (_OS2_RUNS_24, 24):
                raise _unsupported(compression, depth)
            compression = RUNS_24
        elif compression == RUNS_24:
            raise _unsupported(compression, depth)
    else:
        raise UnsupportedImageError(f"a BMP image with an unknown header ({header_bytes} bytes)")
    if len(data) < end or width <= 0 or not height:
        raise broken(KIND)
    masks = _MASKS.get(depth, (0, 0, 0, 0))
    if compression in (BIT_FIELDS, _ALPHA_BIT_FIELDS) and header_bytes in _WINDOWS_HEADERS:
        with_alpha = compression == _ALPHA_BIT_FIELDS or header_bytes >= 56
        red, green, blue, alpha = unpack(KIND, "<4I", data, _FILE_HEADER + 40)
        masks = red, green, blue, alpha if with_alpha else 0
        end = max(end, _FILE_HEADER + 40 + (16 if compression == _ALPHA_BIT_FIELDS else 12))
        compression = BIT_FIELDS
    if depth not in _DEPTHS.get(compression, ()):
        raise _unsupported(compression, depth)
    if depth == 16:
        compression = BIT_FIELDS
    palette = b""
    if depth <= 8:
        stated = min(colours, 65_536) or 1 << depth
        if offset in (0, end):  # some programs forget the palette
            offset = end + stated * colour_bytes
        table = data[end : min(offset, end + min(stated, 1 << depth) * colour_bytes)]
        palette = _padded(table, colour_bytes).ljust(4 << depth, b"\0")[: 4 << depth]
    header = Header(width, abs(height), height < 0, depth, compression, masks)
    return _structure(header, header.pack() + palette + data[offset or end :])


def _padded(table: bytes, colour_bytes: int) -> bytes:
    """Return a palette of 4 bytes a colour."""
    if colour_bytes == 4:
        return table
    return b"".join(table[at : at + 3] + b"\0" for at in range(0, len(table) - 2, 3))


def _structure(header: Header, essential: bytes) -> Structure:
    if header.compression == RAW:
        pixel_bytes = 8 if header.depth > 8 else 5
    else:  # bands of the file and of the image, or runs, which are expanded in Python
        pixel_bytes = 24 if header.compression == BIT_FIELDS else 16
    bounded = header.compression == RAW
    return Structure(KIND, header.width, header.height, essential, pixel_bytes, bounded=bounded)


def _unsupported(compression: int, depth: int) -> UnsupportedImageError:
    return UnsupportedImageError(
        f"a BMP image with compression {compression} and {depth} bits per pixel, which isn't supported"
    )
