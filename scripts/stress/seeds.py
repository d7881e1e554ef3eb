"""Small generated photos of every accepted format and mode; always the same bytes."""

import dataclasses
import struct
import zlib
from typing import Any

import numpy as np
from PIL import Image

from scripts.common.pictures import encoded
from scripts.stress import heif
from scripts.stress.bombs import chunk

Seeds = dict[str, bytes]
PNG = b"\x89PNG\r\n\x1a\n"
"""First bytes of a PNG."""


def seeds() -> Seeds:
    """Return small photos by name, one of each kind of file that decoders treat differently."""
    rgb = _picture(96, 64)
    grey, palette, alpha = rgb.convert("L"), rgb.quantize(32), rgb.copy()
    alpha.putalpha(grey)
    deep = Image.fromarray((np.asarray(grey, np.uint16) << 8) + 77)
    turned = [rgb.rotate(90), rgb.rotate(180)]
    frames: dict[str, Any] = {"save_all": True, "append_images": turned, "duration": 50}
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = 6, "a description"
    files = {
        "jpeg": encoded(rgb, "JPEG"),
        "jpeg-progressive": encoded(rgb, "JPEG", progressive=True, subsampling=0),
        "jpeg-restart": encoded(rgb, "JPEG", restart_marker_blocks=3, optimize=True),
        "jpeg-cmyk": encoded(rgb.convert("CMYK"), "JPEG"),
        "jpeg-grey": encoded(grey, "JPEG"),
        "jpeg-exif": encoded(rgb, "JPEG", exif=exif, comment=b"comment", dpi=(72, 72)),
        "jpeg-profile": encoded(rgb, "JPEG", icc_profile=bytes(range(256)) * 4),
        "jpeg-large": encoded(_picture(900, 600), "JPEG", quality=60),
        "png": encoded(rgb, "PNG"),
        "png-palette": encoded(palette, "PNG"),
        "png-palette-transparent": encoded(palette, "PNG", transparency=3, bits=4),
        "png-bits": encoded(grey.convert("1"), "PNG"),
        "png-grey": encoded(grey, "PNG"),
        "png-grey-alpha": encoded(grey.convert("LA"), "PNG"),
        "png-16": encoded(deep, "PNG"),
        "png-alpha": encoded(alpha, "PNG", exif=exif),
        "png-animated": encoded(rgb, "PNG", **frames),
        "png-interlaced": _interlaced_png(rgb),
        "webp": encoded(rgb, "WEBP", quality=60),
        "webp-lossless": encoded(rgb, "WEBP", lossless=True),
        "webp-alpha": encoded(alpha, "WEBP", exif=exif),
        "webp-animated": encoded(rgb, "WEBP", **frames),
        "gif": encoded(palette, "GIF", interlace=0),
        "gif-interlaced": encoded(palette, "GIF", interlace=1, comment=b"comment"),
        "gif-transparent": encoded(palette, "GIF", transparency=3),
        "gif-animated": encoded(palette, "GIF", **frames, loop=0, disposal=2),
        "bmp": encoded(rgb, "BMP"),
        "bmp-palette": encoded(palette, "BMP"),
        "bmp-bits": encoded(grey.convert("1"), "BMP"),
        "bmp-alpha": encoded(alpha, "BMP"),
        "bmp-runs": _run_length_bmp(),
        "avif": encoded(rgb, "AVIF", speed=10),
        "avif-alpha": encoded(alpha, "AVIF", exif=exif, speed=10),
        "avif-animated": encoded(rgb, "AVIF", **frames, speed=10),
    }
    if heif.HEIC_INSTALLED:
        tile = dataclasses.replace(heif.small(b"hvc1"), hidden=True)
        files["heic"] = heif.written(heif.small(b"hvc1"))
        files["heic-tiles"] = heif.written(
            heif.grid(2, 1, 128, 64, (1, 2), heif.turn_box(1)), tile, tile, metadata=b"Exif\0\0MM\0*"
        )
    with_thumbnail = b"Exif\0\0" + _exif_with_thumbnail(files["jpeg-grey"])
    return files | {"jpeg-thumbnail": encoded(rgb, "JPEG", exif=with_thumbnail)}


def _picture(width: int, height: int) -> Image.Image:
    noise = np.random.default_rng(width).integers(0, 256, (-(-height // 8), -(-width // 8), 3), np.uint8)
    return Image.fromarray(noise).resize((width, height), Image.Resampling.BICUBIC)


def _interlaced_png(image: Image.Image) -> bytes:
    """Write the seven passes of Adam7 (PNG specification, 8.2); Pillow does not write interlaced PNG."""
    pixels = np.asarray(image)
    passes = (
        (0, 0, 8, 8), (4, 0, 8, 8), (0, 4, 4, 8), (2, 0, 4, 4), (0, 2, 2, 4), (1, 0, 2, 2), (0, 1, 1, 2),
    )  # fmt: skip
    rows = b"".join(b"\0" + row.tobytes() for x, y, dx, dy in passes for row in pixels[y::dy, x::dx])
    head = struct.pack(">IIBBBBB", image.width, image.height, 8, 2, 0, 0, 1)
    chunks = ((b"IHDR", head), (b"IDAT", zlib.compress(rows)), (b"IEND", b""))
    return PNG + b"".join(chunk(kind, data) for kind, data in chunks)


def _run_length_bmp() -> bytes:
    """Write 32 run-length encoded lines of 64 pixels (BI_RLE8); Pillow does not write such BMP."""
    lines = b"".join(bytes((40, line, 24, 255 - line, 0, 0)) for line in range(32)) + b"\0\1"
    palette = b"".join(bytes((n, 255 - n, n // 2, 0)) for n in range(256))
    info = struct.pack("<IiiHHIIiiII", 40, 64, 32, 1, 8, 1, len(lines), 2835, 2835, 256, 0)
    start = 14 + len(info) + len(palette)
    return b"BM" + struct.pack("<IHHI", start + len(lines), 0, 0, start) + info + palette + lines


def _exif_with_thumbnail(jpeg: bytes) -> bytes:
    """Return a TIFF with two directories, the second with a thumbnail (Exif 2.32, 4.5.5)."""
    first = struct.pack("<HHHIII", 1, 0x0112, 3, 1, 3, 26)
    second = struct.pack("<HHHIIHHIII", 2, 0x0201, 4, 1, 56, 0x0202, 4, 1, len(jpeg), 0)
    return b"II*\0" + struct.pack("<I", 8) + first + second + jpeg
