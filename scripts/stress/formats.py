"""Positions of the parts, dimensions and checksums inside the file of a photo."""

import zlib
from collections.abc import Callable
from typing import Any

from scripts.stress.seeds import PNG

Span = tuple[int, int]
JPEG = b"\xff\xd8"
"""First bytes of a JPEG."""


def parts(data: bytes) -> list[Span]:
    """Return the spans of the chunks (PNG, RIFF), segments (JPEG) or blocks (GIF) of a file."""
    if data.startswith(PNG):
        return _walk(data, 8, lambda at: 12 + int.from_bytes(data[at : at + 4]))
    if data.startswith(JPEG):
        return _walk(data, 2, lambda at: 2 + int.from_bytes(data[at + 2 : at + 4]) if data[at] == 0xFF else 0)
    if data.startswith(b"RIFF"):
        return _walk(data, 12, lambda at: 8 + -(-int.from_bytes(data[at + 4 : at + 8], "little") // 2) * 2)
    if data.startswith(b"GIF") and len(data) > 13:
        start = 13 + (3 << (data[10] & 7) + 1 if data[10] & 128 else 0)
        return _walk(data, start, lambda at: _gif_block(data, at))
    return []


def _walk(data: bytes, at: int, length: Callable[[int], int]) -> list[Span]:
    spans = []
    while at + 4 < len(data):
        size = length(at)
        if size <= 0 or at + size > len(data):
            break
        spans.append((at, at + size))
        at += size
    return spans


def _gif_block(data: bytes, start: int) -> int:
    at = start + 2  # an extension: introducer and label, then sub-blocks
    if data[start] == 0x2C:  # an image: descriptor, its palette, the code size, then sub-blocks
        flags = data[start + 9] if start + 9 < len(data) else 0
        at = start + 11 + (3 << (flags & 7) + 1 if flags & 128 else 0)
    elif data[start] != 0x21:
        return 0
    while at < len(data) and data[at]:
        at += 1 + data[at]
    return at + 1 - start


def dimensions(data: bytes) -> list[tuple[int, int, str]]:
    """Return the fields that hold widths and heights: offset, size in bytes, byte order."""
    if data.startswith(PNG):
        return [(16, 4, "big"), (20, 4, "big")]
    if data.startswith(b"BM"):
        return [(18, 4, "little"), (22, 4, "little")]
    if data.startswith(JPEG):
        frames = [start for start, _ in parts(data) if data[start + 1] in (0xC0, 0xC1, 0xC2)]
        return [(start + at, 2, "big") for start in frames for at in (5, 7)]
    if data.startswith(b"GIF"):
        images = [start for start, _ in parts(data) if data[start] == 0x2C]
        return [(at, 2, "little") for at in (6, 8, *(start + at for start in images for at in (1, 3, 5, 7)))]
    fields: list[tuple[int, int, str]] = []
    for start, _ in parts(data):
        kind = data[start : start + 4]
        if kind == b"VP8X":
            fields += [(start + 12, 3, "little"), (start + 15, 3, "little")]
        elif kind == b"VP8 ":
            fields += [(start + 14, 2, "little"), (start + 16, 2, "little")]
        elif kind == b"VP8L":
            fields += [(start + 9, 4, "little")]
        elif kind == b"ANMF":
            fields += [(start + at, 3, "little") for at in (8, 11, 14, 17)]
    return fields


def put(data: bytes, at: int, value: int, size: int, order: Any) -> bytes:
    """Return the file with an integer written at an offset; the integer is cut to its size in bytes."""
    return data[:at] + (value % (1 << 8 * size)).to_bytes(size, order) + data[at + size :]


def with_checksums(data: bytes) -> bytes:
    """Return a PNG with the checksums of its chunks corrected."""
    for start, end in parts(data):
        data = put(data, end - 4, zlib.crc32(data[start + 4 : end - 4]), 4, "big")
    return data
