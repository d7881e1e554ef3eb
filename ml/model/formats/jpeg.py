"""JPEG (ITU-T T.81): marker segments up to the first scan, and the number of scans."""

import re
from collections.abc import Iterator

from ml.model.formats import exif
from ml.model.formats.structure import PARTS, Structure, broken, too_many_parts, unpack

_KIND = "JPEG"
_MARKER = re.compile(rb"\xff([^\x00\xff])")
_MARKER_IN_SCAN = re.compile(rb"\xff([^\x00\xff\xd0-\xd7])")  # without escaped bytes and restarts
_GAP = 64 * 1024
"""Bytes between two segments, which all decoders skip."""
_BARE = frozenset({0x01, *range(0xD0, 0xD9)})  # markers without a segment
_END, _SCAN, _EXIF, _JFIF, _ADOBE = 0xD9, 0xDA, 0xE1, 0xE0, 0xEE
_TABLES = frozenset({0xC4, 0xCC, 0xDB, 0xDD})  # of Huffman and arithmetic codes, quantisation; restarts
_FRAMES = frozenset({*range(0xC0, 0xD0)} - {0xC4, 0xC8, 0xCC})
_COMMON_FRAMES = frozenset({0xC0, 0xC1, 0xC2})  # baseline, extended and progressive, with Huffman codes
_PROGRESSIVE = frozenset({0xC2, 0xC6, 0xCA, 0xCE})
_HEADER_BYTES = 64 * 1024
"""Tables before the first scan; they take less than 5,000 bytes in any photo."""
_SCANS = 100
"""Scans of a photo; common progressive ones have 10. Each costs a pass over the whole image, even if it is
empty."""
END = b"\xff\xd9"
"""Marker of the end of the image."""


def has_end(essential: bytes) -> bool:
    """Return whether a file, without metadata, has a marker of its end."""
    return essential.rfind(END) >= 0  # it is at the end, where the search begins


def inspect(data: bytes) -> Structure:
    """Return the structure of a JPEG; raises BrokenImageError."""
    kept, kept_bytes = [data[:2]], 0
    frame: tuple[int, bytes] | None = None
    orientation: int | None = None
    for marker, start, end in _segments(data):
        content = data[start + 4 : end]
        if marker == _SCAN:
            if frame is None or not content:
                raise broken(_KIND)
            scans, image_end = _scans(data, end)
            kept.append(data[start:image_end])
            return _structure(*frame, b"".join(kept), content[0], scans, orientation or 1)
        if marker == _EXIF and orientation is None and content.startswith(b"Exif\0\0"):
            orientation = exif.orientation(content)
        if marker in _FRAMES:
            if frame is not None:
                raise broken(_KIND)
            frame = marker, content
        elif not (
            marker in _TABLES
            or (marker == _JFIF and content.startswith(b"JFIF\0") and len(content) >= 14)
            or (marker == _ADOBE and content.startswith(b"Adobe"))
        ):
            continue
        kept.append(data[start:end])
        kept_bytes += end - start
        if kept_bytes > _HEADER_BYTES:
            raise too_many_parts(_KIND)
    raise too_many_parts(_KIND)


def _segments(data: bytes) -> Iterator[tuple[int, int, int]]:
    """Yield marker, start and end of each segment, as far as there may be segments."""
    position = 2
    for _ in range(PARTS):
        # A search without a limit would take long, and stop all other threads.
        if (match := _MARKER.search(data, position, position + _GAP)) is None:
            raise broken(_KIND) if position + _GAP >= len(data) else too_many_parts(_KIND)
        marker, position = match[1][0], match.end()
        if marker in _BARE:
            continue
        (length,) = unpack(_KIND, ">H", data, position)
        if marker == _END or length < 2 or position + length > len(data):
            raise broken(_KIND)
        yield marker, position - 2, position + length
        position += length


def _scans(data: bytes, position: int) -> tuple[int, int]:
    """Return the number of scans and the end of the image; `position` is in the first scan.

    What follows the image, such as the video of a motion photo, doesn't count.
    """
    if data.find(b"\xff\xda", position) < 0:  # the usual case
        end = data.rfind(END, position)
        return 1, len(data) if end < 0 else end + len(END)
    scans = 1
    for _ in range(PARTS):
        if (match := _MARKER_IN_SCAN.search(data, position)) is None:
            return scans, len(data)
        marker, position = match[1][0], match.end()
        if marker == _END:
            return scans, position
        if marker in _BARE:
            continue
        scans += marker == _SCAN
        if position + 2 > len(data):
            return scans, len(data)
        position += int.from_bytes(data[position : position + 2], "big")
    raise too_many_parts(_KIND)


def _structure(
    marker: int, frame: bytes, essential: bytes, scan_components: int, scans: int, orientation: int
) -> Structure:
    height, width, components = unpack(_KIND, ">HHB", frame, 1)
    samplings = frame[7 : 6 + 3 * components : 3]
    sides = [(sampling >> 4, sampling & 15) for sampling in samplings]
    if not width or not height or len(sides) != components or not sides or not all(map(all, sides)):
        raise broken(_KIND)
    if scans > _SCANS:
        raise too_many_parts(_KIND)
    largest = max(h for h, _ in sides) * max(v for _, v in sides)
    # libjpeg keeps all coefficients, of two bytes each, if it can't output rows during the only scan.
    keeps = marker in _PROGRESSIVE or scans > 1 or scan_components < components
    samples = width * height * sum(h * v for h, v in sides) // largest
    ended = has_end(essential)
    if not ended and keeps and marker not in _PROGRESSIVE:  # the scans of some colours may be missing
        raise broken(_KIND)
    return Structure(
        _KIND,
        width,
        height,
        essential,
        pixel_bytes={1: 5, 3: 4}.get(components, 8),
        buffer_bytes=2 * samples if keeps else 0,
        # Without an end, it is decoded more than once, see `ml.model.decoder`.
        passes=scans if ended else 3 * scans,
        scalable=ended,
        bounded=marker in _COMMON_FRAMES,
        orientation=orientation,
    )
