"""AVIF and HEIC files that are small, or within every limit, and cost a decoder as much as possible."""

import functools
import io
import struct
from collections.abc import Callable
from dataclasses import replace

from PIL import Image

from scripts.stress.heif import HEIC_INSTALLED, Item, box, coded, grid, size_box, small, written

_CODINGS = {"AVIF": b"av01"} | ({"HEIC": b"hvc1"} if HEIC_INSTALLED else {})
_ITEMS = 60_000
"""Numbers of items and of pieces have two bytes."""
_TILE = 512  # width and height, in pixels, as phones make them


def metadata() -> dict[str, Callable[[int], bytes]]:
    """Return functions that make a file of about so many bytes, by name; few of them are pixels."""
    return {
        f"{name}, {kind}": functools.partial(make, coding)
        for name, coding in _CODINGS.items()
        for kind, make in _METADATA.items()
    }


def pixels() -> dict[str, Callable[[int, int], bytes]]:
    """Return functions that make a file of that width and height, by name."""
    return {
        f"{name}, {kind}": functools.partial(make, coding)
        for name, coding in _CODINGS.items()
        for kind, make in _PIXELS.items()
    }


def _flat(coding: bytes, width: int, height: int, **options: object) -> Item:
    return coded(Image.new("RGB", (width, height), "orange"), coding, **options)


def _full_colours(coding: bytes, width: int, height: int) -> bytes:
    options = {"chroma": 444} if coding == b"hvc1" else {"subsampling": "4:4:4"}
    return written(_flat(coding, width, height, **options))


def _items(coding: bytes, size: int) -> bytes:
    return written(small(coding), *[Item(coding, b"x")] * min(_ITEMS, size // 60))


def _pieces(coding: bytes, size: int) -> bytes:
    return written(replace(small(coding), extents=min(_ITEMS, size // 8)))


def _properties(coding: bytes, size: int) -> bytes:
    image = small(coding)
    more = tuple(box(b"free", struct.pack(">I", number)) for number in range(min(200, size // 12)))
    return written(replace(image, properties=image.properties + more))


def _nested(coding: bytes, size: int) -> bytes:
    nested = b""
    for _ in range(min(2000, size // 8)):
        nested = box(b"grpl", nested)
    return written(small(coding), in_meta=nested)


def _grid_of_one_tile(coding: bytes, size: int) -> bytes:
    """Return a grid of very many tiles, which are all the same one."""
    side = min(255, int((size // 2) ** 0.5))
    return written(grid(side, side, 16 * side, 16 * side, [1] * side**2), small(coding))


def _grid_of_itself(coding: bytes, size: int) -> bytes:
    return written(grid(1, 1, 64, 64, [0]), small(coding)) + bytes(size)


def _grid_of_grids(coding: bytes, size: int) -> bytes:
    """Return a grid of 50 x 50 grids, and so on, down to one tile."""
    layers = [grid(50, 50, 800, 800, [layer + 1] * 2500) for layer in range(max(1, min(9, size // 10_000)))]
    return written(*layers, small(coding))


def _tiles(coding: bytes, width: int, height: int) -> bytes:
    columns, rows = -(-width // _TILE), -(-height // _TILE)
    tile = replace(_flat(coding, _TILE, _TILE), hidden=True)
    count = columns * rows
    return written(grid(columns, rows, width, height, range(1, count + 1)), *[tile] * count)


def _tiles_larger_than_the_image(coding: bytes, width: int, height: int) -> bytes:
    tile = replace(_flat(coding, width // 4, height // 4), hidden=True)
    return written(grid(8, 8, 64, 64, [1] * 64), tile)


def _overstated(coding: bytes, width: int, height: int) -> bytes:
    image = small(coding)
    return written(replace(image, properties=(image.properties[0], size_box(width, height))))


def _understated(coding: bytes, width: int, height: int) -> bytes:
    image = _flat(coding, width, height)
    return written(replace(image, properties=(image.properties[0], size_box(16, 16))))


def _sequence(coding: bytes, width: int, height: int) -> bytes:
    """Return an animation of 20 frames; HEIC has none that Pillow writes, so it is many images."""
    frames = [Image.new("RGB", (width // 4, height // 4), (number, 0, 0)) for number in range(20)]
    if coding == b"hvc1":
        return written(*[_flat(coding, width // 4, height // 4)] * 20)
    buffer = io.BytesIO()
    frames[0].save(buffer, "AVIF", save_all=True, append_images=frames[1:], speed=10)
    return buffer.getvalue()


_METADATA: dict[str, Callable[[bytes, int], bytes]] = {
    "items": _items,
    "pieces of one item": _pieces,
    "properties": _properties,
    "nested boxes": _nested,
    "a grid of one tile": _grid_of_one_tile,
    "a grid of itself": _grid_of_itself,
    "a grid of grids": _grid_of_grids,
    "boxes before the items": lambda coding, size: written(small(coding), before=box(b"free") * (size // 8)),
    "boxes among the items": lambda coding, size: written(small(coding), in_meta=box(b"free") * (size // 8)),
    "brands": lambda coding, size: written(small(coding), before=box(b"ftyp", b"avif" * (size // 4))),
    "EXIF": lambda coding, size: written(
        small(coding), metadata=b"Exif\0\0MM\0*\0\0\0\x08\xff\xff" + bytes(size)
    ),
}
_PIXELS: dict[str, Callable[[bytes, int, int], bytes]] = {
    "one image": lambda coding, width, height: written(_flat(coding, width, height)),
    "colours in full": _full_colours,
    "tiles": _tiles,
    "tiles larger than the image": _tiles_larger_than_the_image,
    "a larger size than it has": _overstated,
    "a smaller size than it has": _understated,
    "a sequence": _sequence,
}
