"""GIF (87a and 89a): blocks up to the first image."""

from ml.model.formats.structure import PARTS, Structure, broken, too_many_parts, unpack

_KIND = "GIF"
_TABLE = 0x80  # flag: a colour table follows
_EXTENSION, _IMAGE = 0x21, 0x2C
_CONTROL, _CONTROL_BYTES = 0xF9, 4
_SUB_BLOCK_BYTES = 32
"""The blocks before the first image may have one more sub-block for each so many bytes of the file; encoders
write sub-blocks of 255 bytes, and XMP is text whose letters count as lengths."""


def inspect(data: bytes) -> Structure:
    """Return the structure of a GIF's first image; raises BrokenImageError."""
    width, height, flags = unpack(_KIND, "<HHB", data, 6)
    position = 13 + _table_bytes(flags)
    kept = [data[:position]]
    sub_blocks = PARTS + len(data) // _SUB_BLOCK_BYTES
    for _ in range(PARTS):
        (block,) = unpack(_KIND, "B", data, position)
        if block == _IMAGE:
            left, top, image_width, image_height = unpack(_KIND, "<HHHH", data, position + 1)
            width, height = max(width, left + image_width), max(height, top + image_height)
            if not width or not height or not image_width or not image_height:
                raise broken(_KIND)
            kept.append(data[position:])
            # One byte of Pillow's image, perhaps of a smaller canvas before, and RGB.
            return Structure(_KIND, width, height, b"".join(kept), pixel_bytes=6)
        if not block:  # as some encoders write between blocks
            position += 1
            continue
        if block != _EXTENSION:
            raise broken(_KIND)
        start, position = position, position + 2
        while True:
            (length,) = unpack(_KIND, "B", data, position)
            position += 1 + length
            sub_blocks -= 1
            if not length:
                break
            if not sub_blocks:
                raise too_many_parts(_KIND)
        if data[start + 1] == _CONTROL and data[start + 2] >= _CONTROL_BYTES:
            kept.append(b"!\xf9\4" + data[start + 3 : start + 3 + _CONTROL_BYTES] + b"\0")
    raise too_many_parts(_KIND)


def _table_bytes(flags: int) -> int:
    return 3 << (flags & 7) + 1 if flags & _TABLE else 0
