"""Photos that are small as files, or within every limit, and cost a decoder as much as possible."""

import functools
import struct
import zlib
from collections.abc import Callable, Iterator

from PIL import Image

from scripts.common.pictures import encoded
from scripts.stress import heif_bombs

_MB = 1_000_000
_FULL = 10 * _MB
"""Size of the largest files; MAX_UPLOAD_MB allows a little more."""
_SIDES = ((4000, 4000), (16_000, 1000), (1000, 16_000))
"""Shapes of 16 megapixels, MAX_PIXELS in render.yaml."""


def bombs() -> Iterator[tuple[str, Callable[[], bytes]]]:
    """Yield each photo's name, and a function that makes it."""
    for size in (_FULL, _MB, 50_000):
        for kind, make in METADATA.items():
            yield f"{kind}, {size:,} bytes", functools.partial(make, size)
    for width, height in (*_SIDES, (2000, 2000), (300, 300)):
        for kind, draw in _PIXELS.items():
            yield f"{kind}, {width} x {height}", functools.partial(draw, width, height)
    for scans in (10, 100, 101, 20_000):
        for width, height in (_SIDES[0], (300, 300)):
            yield (
                f"JPEG of {scans} scans, {width} x {height}",
                functools.partial(repeated_scans, width, height, scans),
            )


@functools.cache
def _small(form: str, **options: object) -> bytes:
    return encoded(Image.new("RGB", (16, 16), "orange"), form, **options)


# JPEG: segments are put behind the first two bytes.


def _jpeg(inserted: bytes) -> bytes:
    photo = _small("JPEG")
    return photo[:2] + inserted + photo[2:]


def _segments(marker: int, content: bytes, size: int) -> bytes:
    segment = struct.pack(">BBH", 0xFF, marker, 2 + len(content)) + content
    return segment * (size // len(segment))


def _exif(entries: bytes, count: int) -> bytes:
    return b"MM\0*\0\0\0\x08" + struct.pack(">H", count & 0xFFFF) + entries


def repeated_scans(width: int, height: int, scans: int) -> bytes:
    """Return a progressive JPEG whose last scan is repeated without data."""
    photo = encoded(Image.new("RGB", (width, height), "orange"), "JPEG", progressive=True)
    last = photo.rindex(b"\xff\xda")
    (length,) = struct.unpack_from(">H", photo, last + 2)
    empty = photo[last : last + 2 + length]
    return photo[:-2] + empty * (scans - photo.count(b"\xff\xda")) + photo[-2:]


def one_scan(mode: str, width: int, height: int) -> bytes:
    """Return a progressive JPEG with nothing but its first scan, which covers all colours."""
    photo = encoded(Image.new(mode, (width, height)), "JPEG", progressive=True, subsampling=0)
    first = photo.index(b"\xff\xda")
    end = min(photo.index(marker, first + 2) for marker in (b"\xff\xda", b"\xff\xc4"))
    return photo[:end] + b"\xff\xd9"


def _photo_with_restarts(width: int, height: int) -> bytes:
    photo = encoded(Image.new("RGB", (width, height)), "JPEG")
    start = photo.index(b"\xff\xda")
    return photo[:start] + b"\xff\xdd\0\4\0\1" + photo[start:]


# PNG: chunks are put behind the header.


def chunk(name: bytes, content: bytes) -> bytes:
    """Return a chunk of a PNG."""
    checksum = zlib.crc32(name + content)
    return struct.pack(">I", len(content)) + name + content + struct.pack(">I", checksum)


def _png(*inserted: bytes) -> bytes:
    photo = _small("PNG")
    return photo[:33] + b"".join(inserted) + photo[33:]


def _deflated(size: int) -> bytes:
    """Return a thousandth of `size`, which inflates to `size`."""
    return zlib.compress(bytes(size), 9)


def _endless_pixels(size: int) -> bytes:
    photo = _small("PNG")
    pixels = chunk(b"IDAT", zlib.compress(bytes(100 * size), 9))
    return photo[:33] + pixels + chunk(b"IEND", b"")


# GIF: blocks are put behind the colour table.


def gif(inserted: bytes) -> bytes:
    """Return a small GIF with blocks inserted before its image."""
    photo = _small("GIF")
    start = 13 + (3 << (photo[10] & 7) + 1 if photo[10] & 0x80 else 0)
    return photo[:start] + inserted + photo[start:]


def _gif_of_sub_blocks(size: int) -> bytes:
    photo = gif(b"")
    start = photo.index(b",") + 11
    codes = b"\1\0" * (size // 2)
    return photo[:start] + codes + b"\0;"


def _canvas(width: int, height: int) -> bytes:
    photo = _small("GIF")
    return photo[:6] + struct.pack("<HH", width, height) + photo[10:]


# WebP: chunks of RIFF.


def _webp(*chunks: tuple[bytes, bytes], flags: int = 0x2C) -> bytes:
    image = _small("WEBP")[12:]
    header = b"VP8X" + struct.pack("<I", 10) + bytes([flags, 0, 0, 0, 15, 0, 0, 15, 0, 0])
    body = b"WEBP" + header
    body += b"".join(name + struct.pack("<I", len(content)) + content for name, content in chunks)
    body += image
    return b"RIFF" + struct.pack("<I", len(body)) + body


def _animation(width: int, height: int) -> bytes:
    frame = Image.new("RGBA", (width, height), (1, 2, 3, 4))
    other = Image.new("RGBA", (width, height), (9, 2, 3, 200))
    return encoded(frame, "WEBP", save_all=True, append_images=[other], lossless=True, method=0, quality=0)


# BMP: run lengths.


def bmp(width: int, height: int, depth: int, compression: int, pixels: bytes) -> bytes:
    """Return a BMP; `compression`: 0 for none, 1 and 2 for run lengths of 8 and 4 bits."""
    table = bytes(range(256)) * 4 if depth <= 8 else b""
    colours = len(table) // 4
    header = struct.pack("<IiiHHIIiiII", 40, width, height, 1, depth, compression, 0, 0, 0, colours, 0)
    start = 14 + len(header) + len(table)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + table + pixels


def _bit_fields(size: int) -> bytes:
    """Return a BMP whose colours have ten bits each."""
    width, height = 1000, max(1, size // 4000)
    masks = struct.pack("<IIII", 0x3FF00000, 0xFFC00, 0x3FF, 0)
    header = struct.pack("<IiiHHIIiiII", 56, width, height, 1, 32, 3, 0, 0, 0, 0, 0) + masks
    start = 14 + len(header)
    pixels = bytes(4 * width * height)
    return b"BM" + struct.pack("<IHHI", start + len(pixels), 0, 0, start) + header + pixels


METADATA: dict[str, Callable[[int], bytes]] = {
    "JPEG, empty APP15 segments": lambda size: _jpeg(_segments(0xEF, b"", size)),
    "JPEG, empty comments": lambda size: _jpeg(_segments(0xFE, b"", size)),
    "JPEG, large comments": lambda size: _jpeg(_segments(0xFE, bytes(60_000), size)),
    "JPEG, colour profiles": lambda size: _jpeg(_segments(0xE2, b"ICC_PROFILE\0\1\xff" + bytes(99), size)),
    "JPEG, Photoshop resources": lambda size: _jpeg(_segments(0xED, b"Photoshop 3.0\0" + b"8BIM" * 99, size)),
    "JPEG, EXIF segments": lambda size: _jpeg(_segments(0xE1, b"Exif\0\0" + _exif(bytes(600), 50), size)),
    "JPEG, quantisation tables": lambda size: _jpeg(_segments(0xDB, (b"\0" + bytes(64)) * 1000, size)),
    "JPEG, Huffman tables": lambda size: _jpeg(_segments(0xC4, (b"\0\1" + bytes(16)) * 3000, size)),
    "JPEG, fill bytes": lambda size: _jpeg(b"\xff" * size),
    "JPEG, fill bytes without a marker": lambda size: b"\xff\xd8" + b"\xff" * size + b"\0",
    "JPEG, fill bytes to the end": lambda size: b"\xff\xd8" + b"\xff" * size,
    "JPEG, bytes between segments": lambda size: _jpeg(b"\0\xff" * (size // 2)),
    "JPEG, restart markers": lambda size: _jpeg(b"\xff\xd0" * (size // 2)),
    "JPEG, segments behind the image": lambda size: _small("JPEG") + _segments(0xEF, b"", size),
    "JPEG, comments between scans": lambda size: (
        _small("JPEG", progressive=True)[:-2] + _segments(0xFE, b"", size)
    ),
    "PNG, EXIF orientations": lambda size: _png(
        chunk(b"eXIf", _exif(struct.pack(">HHII", 0x0112, 3, size // 2, 26), 1) + bytes(size))
    ),
    "PNG, EXIF rationals": lambda size: _png(
        chunk(b"eXIf", _exif(struct.pack(">HHII", 0x0112, 5, size // 8, 26), 1) + bytes(size))
    ),
    "PNG, EXIF entries": lambda size: _png(
        chunk(b"eXIf", _exif(struct.pack(">HHII", 0x0100, 3, 1, 1) * (size // 12), 65_535))
    ),
    "PNG, empty texts": lambda size: _png(chunk(b"tEXt", b"a\0") * (size // 14)),
    "PNG, compressed texts": lambda size: _png(
        chunk(b"zTXt", b"a\0\0" + _deflated(6 * _MB)) * (size // 6000)
    ),
    "PNG, a colour profile": lambda size: _png(chunk(b"iCCP", b"a\0\0" + _deflated(50 * size))),
    "PNG, empty pixel chunks": lambda size: _png(chunk(b"IDAT", b"") * (size // 12)),
    "PNG, unknown chunks": lambda size: _png(chunk(b"abCd", b"") * (size // 12)),
    "PNG, frames of an animation": lambda size: _png(
        chunk(b"acTL", struct.pack(">II", size // 38, 0)), chunk(b"fcTL", bytes(26)) * (size // 38)
    ),
    "PNG, more pixels than it has": _endless_pixels,
    "GIF, a comment of one-byte sub-blocks": lambda size: gif(b"!\xfe" + b"\1a" * (size // 2) + b"\0"),
    "GIF, one-byte comments": lambda size: gif(b"!\xfe\1a\0" * (size // 5)),
    "GIF, large comments": lambda size: gif((b"!\xfe" + (b"\xff" + bytes(255)) * 9 + b"\0") * (size // 2307)),
    "GIF, application data": lambda size: gif(
        b"!\xff\x0bNETSCAPE2.0" + (b"\xff" + bytes(255)) * (size // 256) + b"\0"
    ),
    "GIF, empty extensions": lambda size: gif(b"!\1\0" * (size // 3)),
    "GIF, control extensions": lambda size: gif(b"!\xf9\4\1\0\0\0\0" * (size // 8)),
    "GIF, unknown bytes": lambda size: gif(bytes(size)),
    "GIF, pixels in one-byte sub-blocks": _gif_of_sub_blocks,
    "WebP, empty chunks": lambda size: _webp(*[(b"abcd", b"")] * (size // 8)),
    "WebP, frames of an animation": lambda size: _webp(*[(b"ANMF", bytes(16))] * (size // 24), flags=2),
    "WebP, a colour profile": lambda size: _webp((b"ICCP", bytes(size // 2 * 2))),
    "WebP, EXIF": lambda size: _webp((b"EXIF", _exif(bytes(size // 2 * 2), 65_535))),
    "BMP, run lengths": lambda size: bmp(3400, 3400, 8, 1, b"\1\0" * (size // 2)),
    "BMP, run lengths of four bits": lambda size: bmp(3400, 3400, 4, 2, b"\xff\x11" * (size // 2)),
    "BMP, ends of lines": lambda size: bmp(3400, 3400, 8, 1, (b"\1\0" + b"\0\0") * (size // 4)),
    "BMP, jumps": lambda size: bmp(3400, 3400, 8, 1, b"\0\2\1\0" * (size // 4)),
    "BMP, one-pixel runs of a long line": lambda size: bmp(60_000, 190, 8, 1, b"\1\0" * (size // 2)),
    "BMP, one bit per pixel": lambda size: bmp(4000, size // 500, 1, 0, bytes(size)),
    "BMP, bit fields": lambda size: _bit_fields(size),
}
"""Makes a file of about so many bytes, by name; few of them are pixels."""
_PIXELS: dict[str, Callable[[int, int], bytes]] = {
    "JPEG": lambda width, height: encoded(Image.new("RGB", (width, height)), "JPEG"),
    "JPEG, progressive": lambda width, height: encoded(
        Image.new("RGB", (width, height)), "JPEG", progressive=True, subsampling=0
    ),
    "JPEG, four colours": lambda width, height: encoded(Image.new("CMYK", (width, height)), "JPEG"),
    "JPEG, four colours, progressive": lambda width, height: encoded(
        Image.new("CMYK", (width, height)), "JPEG", progressive=True
    ),
    "JPEG, a restart marker for each block": _photo_with_restarts,
    "JPEG, progressive, one scan": lambda width, height: one_scan("RGB", width, height),
    "JPEG, four colours, progressive, one scan": lambda width, height: one_scan("CMYK", width, height),
    "PNG": lambda width, height: encoded(Image.new("RGB", (width, height)), "PNG", compress_level=1),
    "PNG, transparent": lambda width, height: encoded(
        Image.new("RGBA", (width, height), (1, 2, 3, 4)), "PNG", compress_level=1
    ),
    "PNG, 16-bit grey": lambda width, height: encoded(
        Image.new("I;16", (width, height)), "PNG", compress_level=1
    ),
    "PNG, transparent palette": lambda width, height: encoded(
        Image.new("P", (width, height)), "PNG", compress_level=1, transparency=0
    ),
    "PNG, 16-bit grey, one column": lambda width, height: encoded(
        Image.new("I;16", (1, width * height // 4)), "PNG", compress_level=1
    ),
    "PNG, one bit per pixel, one column": lambda width, height: encoded(
        Image.new("1", (1, width * height // 3)), "PNG", compress_level=1
    ),
    "PNG, transparent, one row": lambda width, height: encoded(
        Image.new("RGBA", (width * height // 4, 1)), "PNG", compress_level=1
    ),
    "PNG, one bit per pixel": lambda width, height: encoded(Image.new("1", (width, height)), "PNG"),
    "GIF": lambda width, height: encoded(Image.new("P", (width, height)), "GIF"),
    "GIF, transparent": lambda width, height: encoded(Image.new("P", (width, height)), "GIF", transparency=0),
    "GIF, a canvas around a small image": _canvas,
    "WebP": lambda width, height: encoded(Image.new("RGB", (width, height)), "WEBP", method=0),
    "WebP, lossless and transparent": lambda width, height: encoded(
        Image.new("RGBA", (width, height), (1, 2, 3, 4)), "WEBP", lossless=True, method=0, quality=0
    ),
    "WebP, transparent": lambda width, height: encoded(
        Image.new("RGBA", (width, height), (1, 2, 3, 4)), "WEBP", method=0
    ),
    "WebP, an animation": _animation,
    "BMP, one pixel per byte": lambda width, height: bmp(
        width, min(height, 10 * _MB // width), 8, 0, bytes(width * min(height, 10 * _MB // width))
    ),
}
METADATA |= heif_bombs.metadata()
_PIXELS |= heif_bombs.pixels()
