"""One photo as files of many kinds; each should get the answer of the photo itself."""

import io
import struct
import zlib
from collections.abc import Callable
from dataclasses import replace

import numpy as np
from PIL import Image

from scripts.common.pictures import encoded
from scripts.stress.bombs import chunk
from scripts.stress.heif import (
    Item,
    box,
    coded,
    full_box,
    grid,
    turn_box,
    written,
)
from tests.helpers.bitmaps import bitmap, fields
from tests.helpers.paths import ROOT

_ALPHA_OF = {
    b"av01": b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha",
    b"hvc1": b"urn:mpeg:hevc:2015:auxid:1",
}
_DEPTH = b"urn:mpeg:hevc:2015:auxid:2"
_TILE = 64
WIDTH, HEIGHT = 7 * _TILE, 4 * _TILE
PHOTO = Image.open(ROOT / "tests" / "photos" / "cat.jpg").resize((WIDTH, HEIGHT))
SMALL = PHOTO.resize((96, 64))
EXIF_TURNED = b"Exif\0\0MM\0*\0\0\0\x08\0\1\1\x12\0\3\0\0\0\1\0\6\0\0\0\0\0\0"
"""EXIF whose orientation is 6, a quarter turn."""
PNG_START = 33  # behind the header


def half_white(photo: Image.Image) -> Image.Image:
    white = Image.new("RGB", photo.size, "white")
    white.paste(photo.crop((photo.width // 2, 0, *photo.size)), (photo.width // 2, 0))
    return white


def _png(photo: Image.Image, *inserted: bytes) -> bytes:
    data = encoded(photo, "PNG")
    return data[:PNG_START] + b"".join(inserted) + data[PNG_START:]


def deep_png(values: np.ndarray, depth: int, key: tuple[int, ...]) -> bytes:
    """A grey or RGB PNG of any depth whose left half has a transparent colour."""
    values = values.astype(">u2" if depth == 16 else np.uint8)
    values[:, : values.shape[1] // 2] = key if values.ndim == 3 else key[0]
    height, width = values.shape[:2]
    rows = b""
    for row in values:
        packed = row.tobytes()
        if depth < 8:
            bits = "".join(f"{value:0{depth}b}" for value in row)
            packed = int(bits, 2).to_bytes(len(bits) // 8, "big")
        rows += b"\0" + packed
    header = struct.pack(">IIBBBBB", width, height, depth, 2 if values.ndim == 3 else 0, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"tRNS", struct.pack(f">{len(key)}H", *key))
        + chunk(b"IDAT", zlib.compress(rows))
        + chunk(b"IEND", b"")
    )


def _deep(photo: Image.Image, depth: int) -> np.ndarray:
    return np.asarray(photo).astype(np.uint32) * ((1 << depth) - 1) // 255


def damaged() -> dict[str, tuple[bytes, bytes]]:
    """Files that browsers show, with files of what they show."""
    plain, progressive = (encoded(SMALL, "JPEG", progressive=each) for each in (False, True))
    profile = chunk(b"iCCP", b"a\0\0" + zlib.compress(bytes(2_000_000)))
    text = bytearray(chunk(b"tEXt", b"Comment\0a text"))
    text[-1] ^= 255
    masks = (0xFF, 0xFF00, 0xFF0000)
    grey = SMALL.convert("L")
    # The key has low bytes that no other pixel of the same high bytes has.
    rgb_16 = np.asarray(SMALL).astype(np.uint32) * 257
    return {
        "JPEG without its end": (plain[:-2], plain),
        "JPEG without its last byte": (plain[:-1], plain),
        "progressive JPEG without its end": (progressive[:-2], progressive),
        "JPEG with bytes behind its end": (plain + b"\0garbage", plain),
        "JPEG with a short APP0": (plain[:2] + b"\xff\xe0\0\7JFIF\0" + plain[20:], plain),
        "PNG with a colour profile of 2 MB": (_png(SMALL, profile), _png(SMALL)),
        "PNG with a wrong checksum in a text": (_png(SMALL, bytes(text)), _png(SMALL)),
        "PNG without its end": (_png(SMALL)[:-12], _png(SMALL)),
        "PNG with half of its end": (_png(SMALL)[:-5], _png(SMALL)),
        "BMP with masks": (bitmap(fields(np.asarray(SMALL), masks), 32, 40, 3, masks), _png(SMALL)),
        "2-bit grey PNG with a transparent colour": (
            deep_png(_deep(grey, 2) | 2, 2, (1,)),
            _png(half_white(Image.fromarray(((_deep(grey, 2) | 2) * 85).astype(np.uint8)).convert("RGB"))),
        ),
        "4-bit grey PNG with a transparent colour": (
            deep_png(_deep(grey, 4) | 8, 4, (3,)),
            _png(half_white(Image.fromarray(((_deep(grey, 4) | 8) * 17).astype(np.uint8)).convert("RGB"))),
        ),
        "16-bit grey PNG with a transparent colour": (
            deep_png(_deep(grey, 16), 16, (0x1234,)),
            _png(half_white(grey.convert("RGB"))),
        ),
        "16-bit RGB PNG with a transparent colour": (
            deep_png(rgb_16, 16, (0x7F01, 0x7F02, 0x7F03)),
            _png(half_white(SMALL)),
        ),
    }


def mirror_box(axis: int) -> bytes:
    """Return the property that mirrors an image: 0 exchanges top and bottom, 1 left and right."""
    return box(b"imir", bytes([axis]))


def alpha_box(kind: bytes) -> bytes:
    """Return the property that makes an auxiliary image the transparency."""
    return full_box(b"auxC", _ALPHA_OF[kind] + b"\0")


def depth_box() -> bytes:
    """Return the property that makes an auxiliary image the distances from the camera."""
    return full_box(b"auxC", _DEPTH + b"\0")


def variants(kind: bytes) -> dict[str, Callable[[], tuple[bytes, Image.Image]]]:
    """Functions that return an AVIF (`av01`) or HEIC (`hvc1`) file, and what it shows."""
    return {
        "plain": lambda: (written(coded(PHOTO, kind)), PHOTO),
        **{f"turned by {quarters}": _turned(kind, quarters) for quarters in (1, 2, 3)},
        "mirrored": lambda: (
            written(_with(coded(PHOTO.transpose(Image.Transpose.FLIP_LEFT_RIGHT), kind), mirror_box(1))),
            PHOTO,
        ),
        "turned by itself and by EXIF": _turned(kind, 3, EXIF_TURNED),
        "turned by EXIF only": lambda: (written(coded(PHOTO, kind), metadata=EXIF_TURNED), PHOTO),
        "tiles": lambda: (_tiled(kind, PHOTO), PHOTO),
        "tiles, turned": lambda: (_tiled(kind, PHOTO.rotate(90, expand=True), turn_box(3)), PHOTO),
        "transparent": lambda: (_with_auxiliary(kind, alpha_box(kind), half=True), half_white(PHOTO)),
        "opaque, with an alpha channel": lambda: (_with_auxiliary(kind, alpha_box(kind)), PHOTO),
        "with a depth image": lambda: (_with_auxiliary(kind, depth_box(), half=True), PHOTO),
        "in pieces": lambda: (written(replace(coded(PHOTO, kind), extents=5)), PHOTO),
        "colours in full": lambda: (written(_colours_in_full(kind)), PHOTO),
        "ten bits": lambda: _ten_bits(kind),
    }


def _with(item: Item, *properties: bytes) -> Item:
    return replace(item, properties=(*item.properties, *properties))


def _turned(kind: bytes, quarters: int, metadata: bytes = b"") -> Callable[[], tuple[bytes, Image.Image]]:
    def make() -> tuple[bytes, Image.Image]:
        stored = PHOTO.rotate(-90 * quarters, expand=True)
        return written(_with(coded(stored, kind), turn_box(quarters)), metadata=metadata), PHOTO

    return make


def _tiled(kind: bytes, photo: Image.Image, *properties: bytes) -> bytes:
    columns, rows = photo.width // _TILE, photo.height // _TILE
    tiles = [
        replace(coded(photo.crop((x, y, x + _TILE, y + _TILE)), kind), hidden=True)
        for y in range(0, photo.height, _TILE)
        for x in range(0, photo.width, _TILE)
    ]
    return written(grid(columns, rows, *photo.size, range(1, len(tiles) + 1), *properties), *tiles)


def _with_auxiliary(kind: bytes, property_box: bytes, half: bool = False) -> bytes:
    grey = Image.new("L", PHOTO.size, 255)
    if half:
        grey.paste(0, (0, 0, WIDTH // 2, HEIGHT))
    auxiliary = replace(_with(coded(grey, kind), property_box), auxiliary_of=0, hidden=True)
    return written(coded(PHOTO, kind), auxiliary)


def _colours_in_full(kind: bytes) -> Item:
    return coded(PHOTO, kind, **({"chroma": 444} if kind == b"hvc1" else {"subsampling": "4:4:4"}))


def _ten_bits(kind: bytes) -> tuple[bytes, Image.Image]:
    if kind == b"av01":  # Pillow writes none
        return (ROOT / "tests" / "helpers" / "ten-bits.avif").read_bytes(), PHOTO
    import pillow_heif

    pixels = np.asarray(PHOTO).astype(np.uint16) << 8
    buffer = io.BytesIO()
    pillow_heif.from_bytes("RGB;16", PHOTO.size, pixels.tobytes()).save(buffer)
    return buffer.getvalue(), PHOTO
