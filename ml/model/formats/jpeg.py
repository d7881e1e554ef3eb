"""JPEG (ITU-T T.81): marker segments up to the first scan, and the number of scans."""

import re

from ml.model.formats import exif
from ml.model.formats.structure import PARTS, Structure, broken, crowded, unpack

_KIND = "JPEG"
_MARKER = re.compile(rb"\xff+([^\x00\xff])")  # bytes between two segments are skipped, as all decoders do
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a segment
_END, _SCAN, _EXIF, _JFIF, _ADOBE = 0xD9, 0xDA, 0xE1, 0xE0, 0xEE
_TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDD})  # of Huffman and arithmetic codes, quantisation; restarts
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_COMMON_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended and progressive, with Huffman codes
_HEADER_BYTES = 64 * 1024
"""Tables before the first scan; they take less than 5,000 bytes in any photo."""
_SCANS = 100
"""Scans of a photo; common progressive ones have 10. Each costs a pass over the whole image, even if it is
empty."""


def inspect(data: bytes) -> Structure:
    """Return the structure of a JPEG; raises BrokenImageError."""
    kept = [data[:2]]
    kept_bytes = 0
    frame: tuple[int, bytes] | None = None
    orientation: int | None = None
    position = 2
    for _ in range(PARTS):
        if (match := _MARKER.search(data, position)) is None:
            raise broken(_KIND)
        marker, position = match[1][0], match.end()
        if marker in _BARE:
            continue
        (length,) = unpack(_KIND, ">H", data, position)
        if marker == _END or length < 2 or position + length > len(data):
            raise broken(_KIND)
        payload = data[position + 2 : position + length]
        if marker == _SCAN:
            if frame is None or not payload:
                raise broken(_KIND)
            kept.append(data[match.start() :])
            scans = 1 + data.count(b"\xff\xda", position)
            return _structure(*frame, b"".join(kept), payload[0], scans, orientation or 1)
        if marker == _EXIF and orientation is None and payload.startswith(b"Exif\0\0"):
            orientation = exif.orientation(payload)
        if marker in _FRAMES:
            if frame is not None:
                raise broken(_KIND)
            frame = marker, payload
        elif not (
            marker in _TABLES
            or (marker == _JFIF and payload.startswith(b"JFIF\0") and length >= 16)
            or (marker == _ADOBE and payload.startswith(b"Adobe"))
        ):
            position += length
            continue
        kept.append(data[position - 2 : position + length])
        kept_bytes += length
        if kept_bytes > _HEADER_BYTES:
            raise crowded(_KIND)
        position += length
    raise crowded(_KIND)


def _structure(
    marker: int, frame: bytes, essential: bytes, scan_components: int, scans: int, orientation: int
) -> Structure:
    height, width, components = unpack(_KIND, ">HHB", frame, 1)
    samplings = frame[7 : 6 + 3 * components : 3]
    sides = [(sampling >> 4, sampling & 15) for sampling in samplings]
    if not width or not height or len(sides) != components or not sides or not all(map(all, sides)):
        raise broken(_KIND)
    if scans > _SCANS:
        raise crowded(_KIND)
    largest = max(h for h, _ in sides) * max(v for _, v in sides)
    # With several scans, libjpeg keeps all coefficients, of two bytes each, until the last one.
    several = scans > 1 or scan_components < components
    samples = width * height * sum(h * v for h, v in sides) // largest
    return Structure(
        _KIND,
        width,
        height,
        essential,
        pixel_bytes={1: 5, 3: 4}.get(components, 8),
        buffer_bytes=2 * samples if several else 0,
        passes=scans,
        scalable=True,
        bounded=marker in _COMMON_FRAMES,
        orientation=orientation,
    )
