"""Every kind of BMP that browsers show is decoded; the others are named."""

import numpy as np
import pytest
from PIL import Image

from ml.model.errors import BrokenImageError, UnsupportedImageError
from ml.model.formats import inspect
from ml.model.image import decode
from tests.conftest import RED, coloured, encode
from tests.helpers.bitmaps import bitmap, fields

PHOTO = coloured(RED, 50, 30)
PHOTO[:10, :15] = (0, 255, 0)  # a corner, so that turning shows
PALETTE = Image.fromarray(PHOTO).quantize(16)
INDICES = np.asarray(PALETTE)
COLOURS = np.array(PALETTE.getpalette()[: 16 * 3], np.uint8).reshape(-1, 3)


def same(data: bytes, pixels: np.ndarray, tolerance: float = 0) -> bool:
    expected = decode(encode(pixels, "PNG"), 24, "squash")
    return float(np.abs(decode(data, 24, "squash").astype(int) - expected).max()) <= tolerance


@pytest.mark.parametrize(
    ("depth", "masks", "tolerance"),
    [
        (16, (0xF800, 0x7E0, 0x1F), 5), (16, (0x7C00, 0x3E0, 0x1F), 5), (16, (0xF00, 0xF0, 0xF), 9),
        (16, (0xF00, 0xF0, 0xF, 0xF000), 9), (16, (0x7C00, 0x3E0, 0x1F, 0x8000), 5),
        (16, (0x1F, 0x7E0, 0xF800), 5), (16, (0xC000, 0x3800, 0x700), 43), (24, (0xFF, 0xFF00, 0xFF0000), 0),
        (32, (0xFF, 0xFF00, 0xFF0000), 0), (32, (0xFF0000, 0xFF00, 0xFF, 0xFF000000), 0),
        (32, (0xFF000000, 0xFF0000, 0xFF00, 0xFF), 0), (32, (0xFF00, 0xFF0000, 0xFF000000), 0),
        (32, (0x3FF00000, 0xFFC00, 0x3FF), 1), (32, (0x1FE00, 0x1FE0000, 0x1FE), 0),
        (32, (0xFFE00000, 0x1FFC00, 0x3FF), 1), (32, (0x7F000000, 0x7F00, 0x7F), 2),
    ],
)  # fmt: skip
@pytest.mark.parametrize("header", [40, 52, 56, 64 + 44, 124])
def test_bit_fields(depth, masks, tolerance, header):
    with_alpha = len(masks) > 3
    compression = 6 if with_alpha and header < 56 else 3
    if header == 52 and with_alpha:
        masks = masks[:3]  # this header has no room for a fourth
        compression = 3
    data = bitmap(fields(PHOTO, masks), depth, header, compression, masks)
    assert same(data, PHOTO, tolerance)


@pytest.mark.parametrize("blue", [0, 0xFF0000], ids=["none", "beyond the pixel"])
def test_a_colour_without_bits_is_black(blue):
    values = fields(PHOTO, (0xFF00, 0xFF, 0))
    assert same(bitmap(values, 16, 40, 3, (0xFF00, 0xFF, blue)), PHOTO * np.array([1, 1, 0], np.uint8))


def test_transparency_of_bit_fields():
    masks = (0xFF0000, 0xFF00, 0xFF, 0xFF000000)
    half = fields(PHOTO, masks)
    half[:, 25:] &= 0xFFFFFF
    expected = PHOTO.copy()
    expected[:, 25:] = 255
    assert same(bitmap(half, 32, 124, 3, masks), expected)
    # As written by programs that know nothing of transparency.
    assert same(bitmap(fields(PHOTO, masks, alpha=0), 32, 124, 3, masks), PHOTO)
    assert same(bitmap(fields(PHOTO, masks, alpha=0), 32), PHOTO)


def full_palette(entries: int = 256) -> bytes:
    table = np.zeros((entries, 4), np.uint8)
    table[: len(COLOURS), :3] = COLOURS[:entries, ::-1]
    return table.tobytes()


@pytest.mark.parametrize("depth", [1, 2, 4, 8])
@pytest.mark.parametrize("header", [12, 16, 40, 64, 124])
def test_palettes(depth, header):
    indices = INDICES & (1 << min(depth, 4)) - 1
    palette = np.frombuffer(full_palette(1 << depth), np.uint8).reshape(-1, 4)
    data = bitmap(indices, depth, header, palette=palette[:, : 3 if header == 12 else 4].tobytes())
    assert same(data, COLOURS[indices])


@pytest.mark.parametrize(
    "options",
    [
        {"palette": full_palette(300), "colours": 300}, {"palette": full_palette(), "offset": 54},
        {"palette": full_palette(), "offset": 0}, {"palette": full_palette(16), "colours": 16},
        {"palette": full_palette(), "colours": 0x12345678}, {"palette": full_palette(), "top_down": True},
    ],
)  # fmt: skip
def test_odd_palettes_and_places(options):
    assert same(bitmap(INDICES, 8, **options), COLOURS[INDICES])


def runs(depth: int) -> bytes:
    """The picture as runs, and each third row as it is."""
    data = b""
    for number, row in enumerate(INDICES[::-1]):
        values = [int(value) for value in row]
        if depth == 24:
            data += b"".join(b"\1" + COLOURS[value, ::-1].tobytes() for value in values)
        elif number % 3:
            data += b"".join(bytes((1, value << (4 if depth == 4 else 0))) for value in values)
        else:
            packed = bytes(values)
            if depth == 4:
                packed = bytes(a << 4 | b for a, b in zip(values[::2], values[1::2], strict=True))
            data += bytes((0, len(values))) + packed + bytes(len(packed) % 2)
        data += b"\0\0"
    return data + b"\0\1"


@pytest.mark.parametrize(("depth", "compression", "header"), [(8, 1, 40), (4, 2, 40), (24, 4, 64)])
def test_run_lengths(depth, compression, header):
    palette = full_palette(1 << depth) if depth < 24 else b""
    data = bitmap(INDICES, depth, header, compression, palette=palette, data=runs(depth))
    assert same(data, COLOURS[INDICES])
    with pytest.raises(BrokenImageError):
        decode(bitmap(INDICES, depth, header, compression, palette=palette, data=runs(depth)[:-40]))


def test_jumps_and_an_early_end_of_run_lengths():
    # Two pixels, a jump by one to the right and two rows up, two pixels; the rest has the first colour.
    data = b"\2\1" + b"\0\2\1\2" + b"\2\2" + b"\0\1"
    expected = np.zeros((4, 6), np.uint8)
    expected[3, :2], expected[1, 3:5] = 1, 2
    file = bitmap(expected, 8, compression=1, palette=full_palette(), data=data)
    assert same(file, COLOURS[expected])


def test_a_run_across_the_edge_is_cut():
    pixels = np.full((2, 6), 3, np.uint8)
    file = bitmap(pixels, 8, compression=1, palette=full_palette(), data=b"\xff\3\0\0\xff\3\0\1")
    assert same(file, COLOURS[pixels])


@pytest.mark.parametrize(
    ("depth", "compression", "header"), [(0, 4, 40), (0, 5, 40), (1, 3, 64), (3, 0, 40), (8, 9, 40)]
)
def test_what_no_browser_shows_is_named(depth, compression, header):
    data = bytearray(bitmap(INDICES, 8, header, compression, palette=full_palette()))
    data[28:30] = depth.to_bytes(2, "little")
    with pytest.raises(UnsupportedImageError, match=f"compression {compression} and {depth} bits"):
        inspect(bytes(data), 10**6)


def test_an_unknown_header():
    data = bytearray(bitmap(INDICES, 8, palette=full_palette()))
    data[14] = 80
    with pytest.raises(UnsupportedImageError, match="unknown header"):
        inspect(bytes(data), 10**6)


@pytest.mark.parametrize("depth", [8, 16, 24, 32])
def test_a_cut_file(depth):
    pixels = fields(PHOTO, (0xFF0000, 0xFF00, 0xFF)) if depth > 16 else INDICES
    data = bitmap(pixels, depth, palette=full_palette() if depth == 8 else b"")
    with pytest.raises(BrokenImageError):
        decode(data[:-8])
