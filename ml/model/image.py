"""Preprocessing from image bytes to pixels, the same for training and serving; Pillow and NumPy only."""

import io
import itertools
import warnings
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from numpy.typing import NDArray
from PIL import Image

Resize = Literal["center_crop", "squash"]
RESIZES: tuple[str, ...] = get_args(Resize)

DEFAULT_MAX_PIXELS = 50_000_000

_SIGNATURES = {
    b"\xff\xd8\xff": "JPEG",
    b"\x89PNG\r\n\x1a\n": "PNG",
    b"GIF87a": "GIF",
    b"GIF89a": "GIF",
    b"BM": "BMP",
}
_TILE = 1024  # width and height, in pixels
_EXIF_ORIENTATION = 0x0112
_TRANSPOSE = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
_SIDEWAYS = frozenset({5, 6, 7, 8})


@dataclass(frozen=True, slots=True)
class Decoded:
    """A photo as the network gets it.

    Attributes:
        pixels: uint8 array [size, size, 3], RGB.
        width: of the whole upright photo, in pixels.
        height: of the whole upright photo, in pixels.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int


class ImageError(ValueError):
    """Bytes that cannot be decoded; the message is meant for users."""


class UnsupportedImageError(ImageError):
    """Not an accepted image format, judged by content."""


class BrokenImageError(ImageError):
    """A truncated or corrupt image of an accepted format."""


class TooManyPixelsError(ImageError):
    """More pixels than the limit according to the header; nothing was decoded."""


def ignore_pillow_warnings() -> None:
    """Silence Pillow's warnings about damaged metadata, in the whole process: for entry points only."""
    warnings.filterwarnings("ignore", module=r"PIL\.")


def sniff(data: bytes) -> str | None:
    """Return Pillow's name of the format that the first bytes announce, or None if it is not accepted."""
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    return next((kind for signature, kind in _SIGNATURES.items() if data.startswith(signature)), None)


def decode(
    data: bytes, size: int = 224, resize: Resize = "center_crop", max_pixels: int = DEFAULT_MAX_PIXELS
) -> NDArray[np.uint8]:
    """Return only the pixels of `read`."""
    return read(data, size, resize, max_pixels).pixels


def read(
    data: bytes, size: int = 224, resize: Resize = "center_crop", max_pixels: int = DEFAULT_MAX_PIXELS
) -> Decoded:
    """Decode an image and resize it to a square.

    Of an animation, the first frame counts. The EXIF orientation is applied, transparency is put over white,
    16 bits are reduced to 8, and the resizing uses Pillow's antialiased bilinear filter.

    Args:
        data: a JPEG, PNG, WebP, GIF or BMP file.
        size: height and width of the result, in pixels.
        resize: `center_crop` (the largest centred square) or `squash` (the whole image).
        max_pixels: an image whose header states more is rejected.

    Raises:
        UnsupportedImageError: the content is not of an accepted format.
        BrokenImageError: it is truncated or corrupt.
        TooManyPixelsError: it has more than `max_pixels` pixels.
    """
    kind = sniff(data)
    if kind is None:
        raise UnsupportedImageError("not a JPEG, PNG, WebP, GIF or BMP image")
    # Opening a GIF allocates its canvas: gigabytes for a file of a hundred bytes. Pillow's own check against
    # a global limit comes before that: it warns above the limit and raises above twice the limit.
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise Image.DecompressionBombError
            orientation = _orientation(image)
            pixels = _pixels(image, size, resize, orientation)
    except MemoryError:
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise TooManyPixelsError(f"more pixels than the limit of {max_pixels:,}") from error
    except Exception as error:
        raise BrokenImageError(f"a truncated or corrupt {kind} image") from error
    if orientation in _SIDEWAYS:
        width, height = height, width
    return Decoded(pixels, width, height)


def _pixels(image: Image.Image, size: int, resize: Resize, orientation: int) -> NDArray[np.uint8]:
    # libjpeg can decode at 1/2, 1/4 or 1/8 of the size for a fraction of the cost. At least twice the target
    # size is kept, so that the filter below does the antialiasing. No effect on other formats.
    image.draft("RGB", (2 * size, 2 * size))
    image.load()
    rgb = to_rgb(image)
    width, height = rgb.size
    side = min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    box = (left, top, left + side, top + side) if resize == "center_crop" else None
    rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)
    if orientation in _TRANSPOSE:  # rotating the small square gives the same result and is cheaper
        rgb = rgb.transpose(_TRANSPOSE[orientation])
    return np.asarray(rgb)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  (a photo with broken EXIF data is still readable)
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to RGB as `read` does: 16 bits reduced to 8, transparency over white."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip to 8 bits instead of scaling it
        grey = (np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(grey, "L").convert("RGB")
    if image.has_transparency_data:
        return _over_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    """Work tile by tile: all at once needs five copies of the photo, a gigabyte for 50 megapixels."""
    rgb = Image.new("RGB", image.size)
    for left, top in itertools.product(range(0, image.width, _TILE), range(0, image.height, _TILE)):
        box = (left, top, min(left + _TILE, image.width), min(top + _TILE, image.height))
        rgba = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        rgb.paste(Image.alpha_composite(white, rgba).convert("RGB"), box)
    return rgb
