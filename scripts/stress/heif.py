"""AVIF and HEIC files, made of their boxes: turned, tiled, with auxiliary images, or hostile."""

import functools
import io
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.util import find_spec

from PIL import Image

HEIC_INSTALLED = find_spec("pillow_heif") is not None
"""Whether there is an encoder of HEIC; Pillow has that of AVIF."""


@dataclass(frozen=True)
class Item:
    """An image or a tile.

    Attributes:
        kind: how it is coded, such as `av01`, `hvc1` or `grid`.
        content: its bytes.
        properties: boxes that describe it.
        parts: positions of the items of which it consists.
        auxiliary_of: position of the item to which this one adds transparency or depth.
        hidden: whether it isn't shown by itself.
        extents: into how many pieces its content is divided.
    """

    kind: bytes
    content: bytes
    properties: tuple[bytes, ...] = ()
    parts: tuple[int, ...] = ()
    auxiliary_of: int | None = None
    hidden: bool = False
    extents: int = 1


def box(name: bytes, *content: bytes) -> bytes:
    """Return a box."""
    return struct.pack(">I4s", 8 + sum(map(len, content)), name) + b"".join(content)


def full_box(name: bytes, *content: bytes, version: int = 0, flags: int = 0) -> bytes:
    """Return a box with version and flags."""
    return box(name, bytes([version]), flags.to_bytes(3, "big"), *content)


def boxes(data: bytes, start: int = 0, end: int | None = None) -> Iterator[tuple[bytes, bytes]]:
    """Yield name and content of each box."""
    at, end = start, len(data) if end is None else end
    while at + 8 <= end:
        size, name = struct.unpack_from(">I4s", data, at)
        yield name, data[at + 8 : at + size]
        at += size


def size_box(width: int, height: int) -> bytes:
    """Return the property that states the size of an image."""
    return full_box(b"ispe", struct.pack(">II", width, height))


def turn_box(quarters: int) -> bytes:
    """Return the property that turns an image anticlockwise by so many quarters."""
    return box(b"irot", bytes([quarters]))


def coded(image: Image.Image, kind: bytes, **options: object) -> Item:
    """Encode an image; return it as an item that is as large as the coded image, without cropping."""
    buffer = io.BytesIO()
    if kind == b"hvc1":
        import pillow_heif

        pillow_heif.register_heif_opener()
        image.save(buffer, "HEIF", **options)
    else:
        image.save(buffer, "AVIF", **{"speed": 10, "max_threads": 1, **options})
    data = buffer.getvalue()
    top = dict(boxes(data))
    properties = dict(boxes(dict(boxes(dict(boxes(top[b"meta"][4:]))[b"iprp"]))[b"ipco"]))
    name = b"hvcC" if kind == b"hvc1" else b"av1C"
    size = struct.unpack(">II", properties[b"ispe"][4:])
    return Item(kind, top[b"mdat"], (box(name, properties[name]), size_box(*size)))


@functools.cache
def small(kind: bytes) -> Item:
    """Return an item of 64 x 64 pixels."""
    return coded(Image.new("RGB", (64, 64), "orange"), kind)


def grid(columns: int, rows: int, width: int, height: int, parts: Sequence[int], *more: bytes) -> Item:
    """Return an item that is made of tiles, from left to right and from top to bottom."""
    content = struct.pack(">BBBBII", 0, 1, rows - 1, columns - 1, width, height)
    return Item(b"grid", content, (size_box(width, height), *more), tuple(parts))


def written(
    *items: Item,
    brand: bytes = b"",
    before: bytes = b"",
    in_meta: bytes = b"",
    metadata: bytes = b"",
) -> bytes:
    """Return a file whose main image is the first item.

    Args:
        items: the images.
        brand: what the file says that it is; empty: by how the pixels are coded.
        before: boxes before those that describe the items.
        in_meta: boxes among those that describe the items.
        metadata: EXIF of the first item.
    """
    every = list(items)
    if metadata:
        every.append(Item(b"Exif", struct.pack(">I", 6) + metadata, hidden=True))
    brand = brand or (b"heic" if any(item.kind == b"hvc1" for item in items) else b"avif")
    start = box(b"ftyp", brand, bytes(4), b"mif1miaf", brand) + before
    places: list[int] = [0] * len(every)
    for _ in range(2):  # the places depend on the length of the boxes
        description = _meta(every, places, in_meta, bool(metadata))
        at = len(start) + len(description) + 8
        for number, item in enumerate(every):
            places[number] = at
            at += len(item.content)
    return start + description + box(b"mdat", *(item.content for item in every))


def _meta(items: list[Item], places: list[int], more: bytes, described: bool) -> bytes:
    infos, locations, associations, references = [], [], [], []
    known: dict[bytes, int] = {}
    for number, (item, place) in enumerate(zip(items, places, strict=True), 1):
        infos.append(
            full_box(b"infe", struct.pack(">HH4sx", number, 0, item.kind), version=2, flags=int(item.hidden))
        )
        length = len(item.content) // item.extents
        pieces = [(place + each * length, length) for each in range(item.extents - 1)]
        pieces.append((place + len(pieces) * length, len(item.content) - len(pieces) * length))
        locations.append(struct.pack(">HHH", number, 0, len(pieces)))
        locations += [struct.pack(">II", *piece) for piece in pieces]
        indices = [known.setdefault(each, len(known) + 1) for each in item.properties]
        associations.append(struct.pack(">HB", number, len(indices)))
        associations += [struct.pack(">H", 0x8000 | each) for each in indices]
        for name, targets in ((b"dimg", item.parts), (b"auxl", _one(item.auxiliary_of))):
            if targets:
                numbers = [struct.pack(">H", each + 1) for each in targets]
                references.append(box(name, struct.pack(">HH", number, len(targets)), *numbers))
    if described:
        references.append(box(b"cdsc", struct.pack(">HHH", len(items), 1, 1)))
    return full_box(
        b"meta",
        full_box(b"hdlr", bytes(4), b"pict", bytes(13)),
        full_box(b"pitm", struct.pack(">H", 1)),
        full_box(b"iloc", bytes([0x44, 0]), struct.pack(">H", len(items)), *locations),
        full_box(b"iinf", struct.pack(">H", len(items)), *infos),
        *([full_box(b"iref", *references)] if references else []),
        box(
            b"iprp",
            box(b"ipco", *known),
            full_box(b"ipma", struct.pack(">I", len(items)), *associations, flags=1),
        ),
        more,
    )


def _one(number: int | None) -> tuple[int, ...]:
    return () if number is None else (number,)
