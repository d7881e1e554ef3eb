"""BMP files of every kind, written here because Pillow writes few of them."""

import struct

import numpy as np


def bitmap(
    pixels: np.ndarray,
    depth: int,
    header: int = 40,
    compression: int = 0,
    masks: tuple[int, ...] = (),
    palette: bytes = b"",
    top_down: bool = False,
    data: bytes | None = None,
    offset: int | None = None,
    colours: int = 0,
) -> bytes:
    """Return a BMP.

    Args:
        pixels: values [height, width], each `depth` bits.
        depth: bits of a pixel.
        header: bytes of the header: 12 and 16 to 64 are those of OS/2.
        compression: its number in the header.
        masks: of red, green, blue and perhaps transparency.
        palette: the colours.
        top_down: whether the first row is the top one.
        data: the pixels in the file; otherwise they are written without compression.
        offset: where the file says that the pixels are; otherwise where they are.
        colours: the size of the palette that the file states.
    """
    height, width = pixels.shape
    if data is None:
        rows = pixels if top_down else pixels[::-1]
        data = b"".join(_row(row, depth) for row in rows)
    if header == 12:
        info = struct.pack("<HHHH", width, height, 1, depth)
    else:
        stated = -height if top_down else height
        info = struct.pack("<iiHHIIiiII", width, stated, 1, depth, compression, len(data), 0, 0, colours, 0)
    packed = struct.pack(f"<{len(masks)}I", *masks)
    info = (info + packed if header > 40 else info)[: header - 4].ljust(header - 4, b"\0")
    info = struct.pack("<I", header) + info + (packed if header == 40 else b"") + palette
    start = 14 + len(info)
    return (
        b"BM"
        + struct.pack("<IHHI", start + len(data), 0, 0, start if offset is None else offset)
        + info
        + data
    )


def _row(row: np.ndarray, depth: int) -> bytes:
    bits = "".join(f"{int(value):0{depth}b}" for value in row) if depth < 8 else ""
    if bits:
        bits += "0" * (-len(bits) % 8)
        packed = int(bits, 2).to_bytes(len(bits) // 8, "big")
    else:
        packed = b"".join(int(value).to_bytes(depth // 8, "little") for value in row)
    return packed + bytes(-len(packed) % 4)


def fields(rgb: np.ndarray, masks: tuple[int, ...], alpha: int = 255) -> np.ndarray:
    """Return the values of pixels whose colours, and transparency, are in the bits of masks."""
    values = np.zeros(rgb.shape[:2], np.uint64)
    bands = [*np.moveaxis(rgb, -1, 0), np.full(rgb.shape[:2], alpha, np.uint8)]
    for band, mask in zip(bands, masks, strict=False):
        most, shift = mask.bit_count(), (mask & -mask).bit_length() - 1
        scaled = np.round(band.astype(float) / 255 * ((1 << most) - 1)).astype(np.uint64)
        values |= scaled << np.uint64(max(0, shift))
    return values
