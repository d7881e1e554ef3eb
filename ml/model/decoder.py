"""Pillow's part of decoding: from a photo's structure to a small RGB square.

It imports no NumPy, because decoding workers (`ml.model.sandbox`) import this module and should stay small.
"""

import contextlib
import io
import itertools
from collections.abc import Iterator
from typing import Literal, get_args

from PIL import Image, WebPImagePlugin  # noqa: F401  (the other formats are imported by preinit)

from ml.model.formats.structure import Structure, broken

Resize = Literal["center_crop", "squash"]
RESIZES: tuple[str, ...] = get_args(Resize)

# Otherwise Pillow imports its plugins for the first photo, which fails if there are too many open files.
Image.preinit()
# Sizes are checked before Pillow sees a photo, against limits that differ from call to call.
Image.MAX_IMAGE_PIXELS = None

_TILE = 512  # width and height, in pixels
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
    with opened(photo) as image:
        # libjpeg can decode at 1/2, 1/4 or 1/8 of the size for a fraction of the cost. At least twice the
        # target size is kept, so that the filter below does the antialiasing. No effect on other formats.
        image.draft("RGB", (2 * size, 2 * size))
        image.load()
        rgb = to_rgb(image)
        width, height = rgb.size
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side) if resize == "center_crop" else None
        rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)
        return upright(rgb, photo.orientation)  # turning the small square gives the same and is cheaper


@contextlib.contextmanager
def opened(photo: Structure) -> Iterator[Image.Image]:
    """Open a photo with Pillow, not decoded yet; for the errors that decoding it raises see `square`."""
    try:
        with Image.open(io.BytesIO(photo.essential), formats=[photo.kind]) as image:
            if image.size != (photo.width, photo.height):
                raise broken(photo.kind)
            yield image
    except MemoryError:
        raise
    except Exception as error:
        if isinstance(error, OSError) and error.errno is not None:  # Pillow's own have none
            raise
        raise broken(photo.kind) from error


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
