"""Pillow's part of decoding: from a photo's structure to a small RGB square.

It also makes copies of photos that are kept. It imports no NumPy, because decoding workers
(`ml.model.sandbox`) import this module and should stay small.
"""

import contextlib
import io
import itertools
import zlib
from collections.abc import Iterator
from dataclasses import replace
from typing import Literal, get_args

from PIL import AvifImagePlugin, Image, WebPImagePlugin  # noqa: F401  (the others are imported by preinit)

from ml.model import bitmap, heic
from ml.model.colour_key import without_colour_key
from ml.model.errors import ImageError
from ml.model.formats import bmp, heif, jpeg
from ml.model.formats.structure import Structure, broken

Resize = Literal["center_crop", "squash"]
RESIZES: tuple[str, ...] = get_args(Resize)

# Otherwise Pillow imports its plugins for the first photo, which fails if there are too many open files.
Image.preinit()
# Sizes are checked before Pillow sees a photo, against limits that differ from call to call.
Image.MAX_IMAGE_PIXELS = None
# One photo gets one CPU.
AvifImagePlugin.DEFAULT_MAX_THREADS = 1

_TILE = 512  # width and height, in pixels
_QUALITY = 90  # of copies
_FILLINGS = b"", b"\x55\xaa" * 128
"""Bytes that stand for what may be missing at the end of a JPEG."""
_HIGH_BYTES = bytes(value >> 8 for value in range(65_536))
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


def square(photo: Structure, size: int, resize: Resize) -> Image.Image:
    """Decode a photo and resize it to an upright RGB square; see `ml.model.image.read`.

    Raises:
        BrokenImageError: it is truncated or corrupt.
        MemoryError, OSError: the system lacks memory or open files; the photo may be good.
    """
    rgb = whole(photo, (2 * size, 2 * size))  # so that the filter below does the antialiasing
    width, height = rgb.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side) if resize == "center_crop" else None
    rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)
    return upright(rgb, photo.orientation)  # turning the small square gives the same and is cheaper


def copy(photo: Structure, side: int) -> bytes:
    """Return a photo as an upright JPEG without metadata; for the errors see `square`.

    Args:
        photo: its structure.
        side: the longer side of the copy, in pixels, unless the photo is smaller.
    """
    scale = min(1.0, side / max(photo.width, photo.height))
    size = max(1, round(scale * photo.width)), max(1, round(scale * photo.height))
    rgb = whole(photo, size).resize(size, Image.Resampling.BILINEAR, reducing_gap=2.0)
    rgb = upright(rgb, photo.orientation)
    rgb.info.clear()  # Pillow would write a comment into the JPEG
    buffer = io.BytesIO()
    rgb.save(buffer, "JPEG", quality=_QUALITY)
    return buffer.getvalue()


def whole(photo: Structure, size: tuple[int, int]) -> Image.Image:
    """Decode a photo to RGB, not upright yet; for the errors see `square`.

    Args:
        photo: its structure.
        size: width and height that are needed at least, in pixels: libjpeg can decode at 1/2, 1/4 or 1/8 of
            the size for a fraction of the cost. It has no effect on other formats.
    """
    photo = _complete(photo)
    with _opened(photo) as image:
        image.draft("RGB", size)
        image.load()
        return to_rgb(without_colour_key(image, photo) if photo.kind == "PNG" else image)


@contextlib.contextmanager
def _opened(photo: Structure) -> Iterator[Image.Image]:
    """Open a photo with Pillow, not decoded yet; for the errors that decoding it raises see `square`."""
    try:
        if photo.kind == heif.HEIC:
            heic.register()
        with (
            bitmap.decoded(photo.essential)
            if photo.kind == bmp.KIND
            else Image.open(io.BytesIO(photo.essential), formats=[photo.kind]) as image
        ):
            # libheif may round the size of a cropped image, but checks it.
            if image.size != (photo.width, photo.height) and photo.kind != heif.HEIC:
                raise broken(photo.kind)
            yield image
    except (ImageError, MemoryError):
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # Pillow's own have none
            raise
        if str(error).startswith("Memory allocation error"):  # libheif's
            raise MemoryError from error
        raise broken(photo.kind) from error


def _complete(photo: Structure) -> Structure:
    """Return a photo; a JPEG that lacks its end, with one.

    libjpeg fills in missing data without an error. So the photo is decoded twice, with different bytes
    appended: if the pixels differ, more than the end marker is missing.

    Raises:
        BrokenImageError: more is missing than the marker of the end.
    """
    if photo.kind != "JPEG" or jpeg.has_end(photo.essential):
        return photo
    start = photo.essential.rstrip(b"\xff")
    photos = [replace(photo, essential=start + filling + jpeg.END) for filling in _FILLINGS]
    if len({_checksum(each) for each in photos}) > 1:
        raise broken(photo.kind)
    return photos[0]


def _checksum(photo: Structure) -> int:
    """Return a checksum of the pixels in full size."""
    checksum = 0
    with _opened(photo) as image:
        image.load()
        for top in range(0, image.height, _TILE):
            rows = image.crop((0, top, image.width, min(top + _TILE, image.height)))
            checksum = zlib.crc32(rows.tobytes(), checksum)
    return checksum


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB: 16 bits reduced to 8, transparency over white."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to 8 bits instead of scaling it
        return image.convert("I").point(_HIGH_BYTES, "L").convert("RGB")
    if image.has_transparency_data:
        return _over_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def upright(image: Image.Image, orientation: int) -> Image.Image:
    """Turn and mirror an image as its EXIF orientation says."""
    return image.transpose(_TRANSPOSE[orientation]) if orientation in _TRANSPOSE else image


def _over_white(image: Image.Image) -> Image.Image:
    """Work tile by tile: all at once needs five copies of the photo, a gigabyte for 50 megapixels."""
    rgb = Image.new("RGB", image.size)
    for left, top in itertools.product(range(0, image.width, _TILE), range(0, image.height, _TILE)):
        box = (left, top, min(left + _TILE, image.width), min(top + _TILE, image.height))
        rgba = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        rgb.paste(Image.alpha_composite(white, rgba).convert("RGB"), box)
    return rgb
