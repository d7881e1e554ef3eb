"""Decodes BMP: Pillow reads few of the formats of a pixel, and no damaged or unusual headers."""

from PIL import Image, ImageChops

from ml.model.formats.bmp import BIT_FIELDS, KIND, RUNS_4, RUNS_8, RUNS_24, Header
from ml.model.formats.structure import broken

_MODES = {
    1: ("P", "P;1"), 2: ("P", "P;2"), 4: ("P", "P;4"), 8: ("P", "P"), 24: ("RGB", "BGR"), 32: ("RGB", "BGRX"),
}  # fmt: skip
"""Pillow's mode of the image, and of the pixels in the file, by bits per pixel."""
_PLANES = {16: "LA", 24: "RGB", 32: "RGBX"}
"""Pillow's modes with a byte of the pixel in each band."""


def decoded(essential: bytes) -> Image.Image:
    """Return the image of the data that `ml.model.formats.bmp.inspect` hands on; raises BrokenImageError.

    Transparency that is full everywhere doesn't count: some programs forget to fill it in.
    """
    header, palette, pixels = Header.unpack(essential)
    if header.compression in (RUNS_4, RUNS_8, RUNS_24):
        return _from_runs(header, palette, pixels)
    stride = (header.width * header.depth + 31) // 32 * 4
    if len(pixels) < stride * (header.height - 1) + (header.width * header.depth + 7) // 8:
        raise broken(KIND)
    whole = stride * header.height
    rows = bytes(pixels[:whole]).ljust(whole, b"\0")  # the last row may lack its filling
    size, direction = (header.width, header.height), 1 if header.top_down else -1
    if header.compression == BIT_FIELDS:
        mode = _PLANES[header.depth]
        return _from_fields(header, Image.frombuffer(mode, size, rows, "raw", mode, stride, direction))
    mode, raw_mode = _MODES[header.depth]
    image = Image.frombuffer(mode, size, rows, "raw", raw_mode, stride, direction)
    if palette:
        image.putpalette(palette, "BGRX")
    return image


def _from_fields(header: Header, planes: Image.Image) -> Image.Image:
    """Return an image whose colours have any bits of a pixel."""
    parts = planes.split()  # the byte with the lowest bits first
    bands = [_field(parts, mask) for mask in header.masks]
    alpha = bands.pop()
    if not header.masks[3] or alpha.getextrema()[1] == 0:
        return Image.merge("RGB", bands)
    return Image.merge("RGBA", [*bands, alpha])


def _field(parts: tuple[Image.Image, ...], mask: int) -> Image.Image:
    """Return the values of the bits in a mask, from 0 to 255."""
    low, high = (mask & -mask).bit_length() - 1, mask.bit_length()
    if not mask or high > 8 * len(parts):
        return Image.new("L", parts[0].size)
    low = max(low, high - 8)  # the eight highest bits are enough; they lie in two bytes at most
    most, byte, shift = (1 << high - low) - 1, low // 8, low % 8
    table = [0 if not most else (value >> shift & most) for value in range(256)]
    values = parts[byte].point(table)
    if high > 8 * (byte + 1):
        upper = [(value << 8 - shift) & most for value in range(256)]
        values = ImageChops.add(values, parts[byte + 1].point(upper))
    return values.point([min(255, (value * 255 + most // 2) // most) for value in range(256)])


def _from_runs(header: Header, palette: bytes, data: memoryview) -> Image.Image:
    """Return an image from run lengths; pixels that no run covers have the first colour."""
    width, height, depth = header.width, header.height, header.depth
    pixel = 3 if depth == 24 else 1
    plane = bytearray(width * height * pixel)
    x = y = at = 0
    while y < height:
        if at + 2 > len(data):
            raise broken(KIND)
        count, value = data[at], data[at + 1]
        at += 2
        if count:  # a run of one colour, or of two in turn
            if depth == 24:
                run = data[at - 1 : at + 2].tobytes()
                at += 2
            else:
                run = bytes((value,)) if depth == 8 else bytes((value >> 4, value & 15))
            run = (run * count)[: count * pixel]
        elif value == 0:  # the end of a row
            x, y = 0, y + 1
            continue
        elif value == 1:  # the end of the image
            break
        elif value == 2:  # a jump
            if at + 2 > len(data):
                raise broken(KIND)
            x, y, at = x + data[at], y + data[at + 1], at + 2
            continue
        else:  # that many pixels as they are, in an even number of bytes
            count = value
            length = count * pixel if depth != 4 else (count + 1) // 2
            run = data[at : at + length].tobytes()
            at += length + length % 2
            if len(run) < length:
                raise broken(KIND)
            if depth == 4:
                run = bytes(half for both in run for half in (both >> 4, both & 15))[:count]
        if (fitting := min(count, width - x)) > 0:
            start, length = (y * width + x) * pixel, fitting * pixel
            plane[start : start + length] = run[:length]
        x += count
    size, direction = (width, height), 1 if header.top_down else -1
    mode, raw_mode = ("RGB", "BGR") if pixel == 3 else ("P", "P")
    image = Image.frombuffer(mode, size, plane, "raw", raw_mode, 0, direction)
    if palette:
        image.putpalette(palette, "BGRX")
    return image
