"""ISO base media files that hold images (ISO/IEC 14496-12, 23008-12): boxes and the items in them."""

import struct
from collections.abc import Iterator
from dataclasses import dataclass, field

from ml.model.formats.structure import PARTS, broken, too_many_parts, unpack

_KIND = "HEIF or AVIF"
_MAX_EXTENTS = _MAX_REFERENCES = 4 * PARTS
_METADATA = frozenset({b"Exif", b"mime", b"uri "})
_MAX_ASSOCIATIONS = 16 * PARTS


@dataclass(slots=True)
class Item:
    """An image, a tile of one, or metadata.

    Attributes:
        kind: how it is coded, such as `hvc1`, `av01` or `grid`.
        properties: name and content of each, in the order in which they apply.
        parts: numbers of the items that it is made of.
        whole: whether all of its bytes are in the file.
    """

    kind: bytes = b""
    properties: list[tuple[bytes, bytes]] = field(default_factory=list)
    parts: tuple[int, ...] = ()
    whole: bool = False


@dataclass(slots=True)
class Container:
    """What a file contains.

    Attributes:
        main: number of the main image.
        items: by number.
        auxiliaries: by the number of an image, the number of the image that it adds to.
        metadata: where the names of the kinds of metadata are in the file, such as `Exif`.
    """

    main: int
    items: dict[int, Item]
    auxiliaries: dict[int, int]
    metadata: list[int]


def brands(data: bytes) -> frozenset[bytes]:
    """Return what a file says that it conforms to; empty: it is no file of this kind."""
    if data[4:8] != b"ftyp":
        return frozenset()
    end = min(int.from_bytes(data[:4], "big"), 8 + 4 * PARTS, len(data))
    return frozenset(data[at : at + 4] for at in (8, *range(16, end, 4)))


def read(data: bytes) -> Container:
    """Return what a file contains.

    Raises:
        BrokenImageError: the boxes are cut short or damaged, or there are too many.
    """
    meta = next((box for name, *box in _boxes(data, 0, len(data)) if name == b"meta"), None)
    if meta is None:
        raise broken(_KIND)
    start, end = meta
    boxes = {name: (first, last) for name, first, last in _boxes(data, start + 4, end)}
    found: dict[int, Item] = {}
    try:
        version, at = data[boxes[b"pitm"][0]], boxes[b"pitm"][0] + 4
        (main,) = unpack(_KIND, ">I" if version else ">H", data, at)
        metadata = _kinds(data, *boxes[b"iinf"], found)
        _places(data, *boxes[b"iloc"], boxes.get(b"idat", (0, 0)), found)
        _properties(data, *boxes[b"iprp"], found)
    except (KeyError, IndexError):
        raise broken(_KIND) from None
    auxiliaries = _references(data, *boxes[b"iref"], found) if b"iref" in boxes else {}
    return Container(main, found, auxiliaries, metadata)


def _boxes(data: bytes, at: int, end: int) -> Iterator[tuple[bytes, int, int]]:
    """Yield name, start and end of the content of each box; a box that is cut short ends at `end`."""
    for _ in range(PARTS):
        if at + 8 > end:
            return
        size, name = struct.unpack_from(">I4s", data, at)
        head = 8
        if size == 1:
            (size,) = unpack(_KIND, ">Q", data, at + 8)
            head = 16
        elif size == 0:
            size = end - at
        if size < head:
            raise broken(_KIND)
        yield name, at + head, min(at + size, end)
        at += size
    raise too_many_parts(_KIND)


def _kinds(data: bytes, start: int, end: int, found: dict[int, Item]) -> list[int]:
    """Add the items; return where the names of the kinds of metadata are."""
    metadata = []
    first = start + (8 if data[start] else 6)
    for name, at, _ in _boxes(data, first, end):
        if name != b"infe" or data[at] < 2:
            continue
        number, _, kind = unpack(_KIND, ">HH4s" if data[at] == 2 else ">IH4s", data, at + 4)
        found.setdefault(number, Item(kind))
        if kind in _METADATA:
            metadata.append(at + (8 if data[at] == 2 else 10))
    return metadata


def _places(data: bytes, start: int, end: int, idat: tuple[int, int], found: dict[int, Item]) -> None:
    """Say of each item whether its bytes are in the file."""
    version, sizes, more = data[start], data[start + 4], data[start + 5]
    number_bytes = 4 if version == 2 else 2
    reader = _Reader(data, start + 6, end)
    index_bytes = more & 15 if version else 0
    left = _MAX_EXTENTS
    for _ in range(reader.count(number_bytes)):
        item = found.get(reader.number(number_bytes))
        method = reader.number(2) & 15 if version else 0
        reader.number(2)  # of the file that it is in; other files are out of the question
        base = reader.number(more >> 4)
        total, whole = 0, True
        for _ in range(reader.number(2)):
            if not (left := left - 1):
                raise too_many_parts(_KIND)
            reader.number(index_bytes)
            offset, length = base + reader.number(sizes >> 4), reader.number(sizes & 15)
            first, last = (0, len(data)) if method == 0 else idat
            length = length or last - first - offset
            whole = whole and method in (0, 1) and length > 0 and first + offset + length <= last
            total += length
        if item is not None:
            item.whole = whole and 0 < total <= len(data)


class _Reader:
    """Reads numbers one after the other."""

    def __init__(self, data: bytes, at: int, end: int) -> None:
        self._data, self._at, self._end = data, at, end

    def number(self, size: int) -> int:
        """Return the number in the next bytes; none are 0."""
        at, self._at = self._at, self._at + size
        if self._at > self._end:
            raise broken(_KIND)
        return int.from_bytes(self._data[at : self._at], "big")

    def count(self, size: int) -> int:
        """Return the number of items, which is in the next bytes."""
        if (count := self.number(size)) > PARTS:
            raise too_many_parts(_KIND)
        return count


def _properties(data: bytes, start: int, end: int, found: dict[int, Item]) -> None:
    known: list[tuple[bytes, bytes]] = []
    for name, first, last in _boxes(data, start, end):
        if name == b"ipco":
            known = [(each, data[a : min(b, a + 64)]) for each, a, b in _boxes(data, first, last)]
        if name == b"ipma":
            version, wide = data[first], data[first + 3] & 1
            reader, left = _Reader(data, first + 4, last), _MAX_ASSOCIATIONS
            for _ in range(reader.count(4)):
                item = found.get(reader.number(4 if version else 2), Item())
                for _ in range(reader.number(1)):
                    index = reader.number(2) & 0x7FFF if wide else reader.number(1) & 0x7F
                    if 0 < index <= len(known):
                        item.properties.append(known[index - 1])
                    if not (left := left - 1):
                        raise too_many_parts(_KIND)


def _references(data: bytes, start: int, end: int, found: dict[int, Item]) -> dict[int, int]:
    size = 4 if data[start : start + 1] > b"\0" else 2
    auxiliaries, left = {}, _MAX_REFERENCES
    for name, first, last in _boxes(data, start + 4, end):
        reader = _Reader(data, first, last)
        number, count = reader.number(size), reader.number(2)
        if name == b"dimg" and number in found:
            if (left := left - count) < 0:
                raise too_many_parts(_KIND)
            found[number].parts = tuple(reader.number(size) for _ in range(count))
        elif name == b"auxl" and count:
            auxiliaries[number] = reader.number(size)
    return auxiliaries
