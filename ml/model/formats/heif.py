"""HEIF files: AVIF, whose pixels are coded as AV1, and HEIC, whose pixels are coded as HEVC.

The main image counts. It may be made of tiles. It may have an auxiliary image for its transparency; others,
such as depth, are ignored. What turns it are its properties; the EXIF orientation is a copy of them for
information (ISO/IEC 23008-12, section 6.5.10), so applying it would turn the photo twice.
"""

from ml.model import heic
from ml.model.errors import UnsupportedImageError
from ml.model.formats import isobmff
from ml.model.formats.isobmff import Item
from ml.model.formats.structure import Structure, broken, unpack

AVIF, HEIC = "AVIF", "HEIF"
"""Pillow's names of the formats."""
BRANDS = frozenset({
    b"avif", b"avis", b"mif1", b"msf1",
    b"heic", b"heix", b"heim", b"heis", b"hevc", b"hevx", b"hevm", b"hevs",
})  # fmt: skip
"""What files for this module say that they are."""
_CODINGS = {b"av01": (AVIF, b"avif"), b"hvc1": (HEIC, b"heic")}
"""Pillow's name of the format, and the brand by which decoders recognise it, by the coding of the pixels."""
_IGNORED = b"none"
"""Replaces the type of metadata, so that decoders ignore it, as they do with types that they don't know."""
_DERIVED = frozenset({b"grid", b"iovl", b"iden"})
_ALPHA = (b"urn:mpeg:hevc:2015:auxid:1", b"urn:mpeg:mpegB:cicp:systems:auxiliary:alpha")
_SIDEWAYS = frozenset({1, 3})  # quarter turns
_ORIENTATIONS = {
    (0, None): 1, (1, None): 8, (2, None): 3, (3, None): 6,
    (0, 0): 4, (1, 0): 5, (2, 0): 2, (3, 0): 7,
    (0, 1): 2, (1, 1): 7, (2, 1): 4, (3, 1): 5,
}  # fmt: skip
"""EXIF orientation by quarter turns (anticlockwise) and the axis of mirroring, which comes after them."""
_PIXEL_BYTES = 8
_MORE_CHROMA_BYTES, _DEEP_BYTES, _ALPHA_BYTES = 4, 4, 3
"""Measured, with photos of 12 megapixels: the decoder's planes, RGB, and Pillow's image."""


def inspect(data: bytes) -> Structure:
    """Return the structure of the main image; raises BrokenImageError or UnsupportedImageError."""
    container = isobmff.read(data)
    items, main = container.items, container.items.get(container.main, Item())
    parts = [items.get(part, Item()) for part in main.parts] if main.kind in _DERIVED else [main]
    coding = parts[0].kind if parts else b""
    if not coding:
        raise broken("HEIF")
    if coding in _DERIVED:  # such as a grid that is turned
        raise UnsupportedImageError("a HEIF image that is derived twice, which isn't supported")
    if coding not in _CODINGS:
        name = coding.decode("ascii", "replace")
        raise UnsupportedImageError(f"a HEIF image whose pixels are {name!r}, and not AV1 or HEVC")
    kind, brand = _CODINGS[coding]
    auxiliary = [
        items[each] for each, of in container.auxiliaries.items() if of == container.main and each in items
    ]
    alphas = [item for item in auxiliary if _is_alpha(item)]
    whole = [main, *parts, *alphas, *(items.get(part, Item()) for alpha in alphas for part in alpha.parts)]
    if not all(item.whole for item in whole):
        raise broken(kind)
    if kind == HEIC:
        heic.check_installed()
    width, height = _size(main)
    orientation = 1
    if kind == HEIC:  # libheif crops and turns, libavif doesn't
        width, height = _cropped_and_turned(main, width, height)
    else:
        properties = dict(main.properties)
        turns = (properties.get(b"irot") or b"\0")[0] & 3
        axis = properties[b"imir"][0] & 1 if properties.get(b"imir") else None
        orientation = _ORIENTATIONS[turns, axis]
    essential = bytearray(data)
    essential[8:12] = brand  # the major one, so that a sequence beside the image is ignored
    for position in container.metadata:
        essential[position : position + 4] = _IGNORED
    pixel_bytes = _PIXEL_BYTES + _extra_bytes(parts[0]) + _ALPHA_BYTES * bool(alphas)
    return Structure(
        kind, width, height, bytes(essential), pixel_bytes, bounded=False, orientation=orientation
    )


def _size(item: Item) -> tuple[int, int]:
    size = dict(item.properties).get(b"ispe", b"")
    width, height = unpack("HEIF", ">II", size, 4)
    if not width or not height:
        raise broken("HEIF")
    return width, height


def _cropped_and_turned(item: Item, width: int, height: int) -> tuple[int, int]:
    for name, content in item.properties:
        if name == b"clap":
            across, across_by, down, down_by = unpack("HEIF", ">4I", content, 0)
            if not all((across, across_by, down, down_by)):
                raise broken("HEIF")
            width, height = min(width, across // across_by), min(height, down // down_by)
        elif name == b"irot" and content and content[0] & 3 in _SIDEWAYS:
            width, height = height, width
    return max(1, width), max(1, height)


def _is_alpha(item: Item) -> bool:
    return dict(item.properties).get(b"auxC", b"")[4:].split(b"\0")[0] in _ALPHA


def _extra_bytes(part: Item) -> int:
    """Return the memory for a pixel that colours in full resolution and more than 8 bits take."""
    properties = dict(part.properties)
    if len(av1 := properties.get(b"av1C", b"")) >= 3:
        full_colours, deep = av1[2] & 0x1C in (0, 8), bool(av1[2] & 0x40)
        return _MORE_CHROMA_BYTES * full_colours + _DEEP_BYTES * deep
    if len(hevc := properties.get(b"hvcC", b"")) >= 18:
        return _MORE_CHROMA_BYTES * (hevc[16] & 3 > 1)
    return _MORE_CHROMA_BYTES
