"""Image bytes to pixels: the one preprocessing, the same for training and for serving.

Pillow and NumPy only, so that the service needs nothing of the training side.
"""

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

# Its remarks on other people's files would only fill the log.
warnings.filterwarnings("ignore", module=r"PIL\.")

DEFAULT_MAX_PIXELS = 50_000_000

_PIECE = 1024  # pixels, width and height
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
    """A photo as a network sees it.

    Attributes:
        pixels: uint8 array [size, size, 3], RGB.
        width: of the whole photo, upright, in pixels.
        height: likewise.
    """

    pixels: NDArray[np.uint8]
    width: int
    height: int


class ImageError(ValueError):
    """Bytes that can't become pixels; the message is fit for a user."""


class UnsupportedImageError(ImageError):
    """Not one of the accepted image formats, judged by content."""


class BrokenImageError(ImageError):
    """An accepted format, but truncated or corrupt."""


class TooManyPixelsError(ImageError):
    """More pixels than the limit, read from the header before anything is decoded."""


def sniff(data: bytes) -> str | None:
    """Return Pillow's name of the format that the first bytes announce, or None if it isn't accepted."""
    if data.startswith(b"\xff\xd8\xff"):
        return "JPEG"
    if data.startswith(b"\x89PNG\r\n\x1a\n"):
        return "PNG"
    if data.startswith(b"RIFF") and data[8:12] == b"WEBP":
        return "WEBP"
    if data.startswith((b"GIF87a", b"GIF89a")):
        return "GIF"
    if data.startswith(b"BM"):
        return "BMP"
    return None


def decode(
    data: bytes, size: int = 224, resize: Resize = "center_crop", max_pixels: int = DEFAULT_MAX_PIXELS
) -> NDArray[np.uint8]:
    """Return the pixels alone of what `read` returns; it takes and raises the same."""
    return read(data, size, resize, max_pixels).pixels


def read(
    data: bytes, size: int = 224, resize: Resize = "center_crop", max_pixels: int = DEFAULT_MAX_PIXELS
) -> Decoded:
    """Turn an encoded image into the pixels that a network sees.

    The first frame of an animation, upright by its EXIF orientation, transparency over white, 16 bits
    reduced to 8, resized by Pillow's antialiased bilinear filter.

    Args:
        data: a JPEG, PNG, WebP, GIF or BMP file.
        size: height and width of the result, in pixels.
        resize: `center_crop` (the largest centred square) or `squash` (the whole image).
        max_pixels: refuse an image whose header states more.

    Raises:
        UnsupportedImageError: the content is of no accepted format.
        BrokenImageError: it is truncated or corrupt.
        TooManyPixelsError: it has more than `max_pixels` pixels.
    """
    kind = sniff(data)
    if kind is None:
        raise UnsupportedImageError("not a JPEG, PNG, WebP, GIF or BMP image")
    # Pillow paints the canvas of a GIF while it opens it, gigabytes for a file of a hundred bytes. Its own
    # check, of a global limit, comes before that: it warns above the limit and refuses above twice the limit.
    Image.MAX_IMAGE_PIXELS = max_pixels
    try:
        with Image.open(io.BytesIO(data), formats=[kind]) as image:
            width, height = image.size
            if width * height > max_pixels:
                raise _too_many(max_pixels)
            orientation = _orientation(image)
            pixels = _pixels(image, size, resize, orientation)
    except (ImageError, MemoryError):
        raise
    except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
        raise _too_many(max_pixels) from error
    except Exception as error:
        raise BrokenImageError(f"a truncated or corrupt {kind} image") from error
    if orientation in _SIDEWAYS:
        width, height = height, width
    return Decoded(pixels, width, height)


def _too_many(max_pixels: int) -> TooManyPixelsError:
    return TooManyPixelsError(f"more pixels than the limit of {max_pixels:,}")


def _pixels(image: Image.Image, size: int, resize: Resize, orientation: int) -> NDArray[np.uint8]:
    # libjpeg decodes at 1/2, 1/4 or 1/8 for a fraction of the cost. Twice the target is kept, which
    # leaves the antialiasing to the filter below. No effect on other formats and on small photos.
    image.draft("RGB", (2 * size, 2 * size))
    image.load()
    rgb = to_rgb(image)
    width, height = rgb.size
    box = (0.0, 0.0, float(width), float(height))
    if resize == "center_crop":
        side = min(width, height)
        left, top = (width - side) / 2, (height - side) / 2
        box = (left, top, left + side, top + side)
    rgb = rgb.resize((size, size), Image.Resampling.BILINEAR, box=box, reducing_gap=3.0)
    if orientation in _TRANSPOSE:  # a centred square commutes with turning, so turn the small one
        rgb = rgb.transpose(_TRANSPOSE[orientation])
    return np.asarray(rgb)


def _orientation(image: Image.Image) -> int:
    try:
        return int(image.getexif().get(_EXIF_ORIENTATION, 1))
    except Exception:  # noqa: BLE001  (broken EXIF doesn't make the photo unreadable)
        return 1


def to_rgb(image: Image.Image) -> Image.Image:
    """Turn a picture of any mode into RGB, as `read` does: 16 bits reduced to 8, transparency over white."""
    if image.mode.startswith("I"):  # 16-bit grey, which Pillow would clip, not scale, to 8 bits
        grey = (np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)
        return Image.fromarray(grey, "L").convert("RGB")
    if image.has_transparency_data:
        return _over_white(image)
    return image if image.mode == "RGB" else image.convert("RGB")


def _over_white(image: Image.Image) -> Image.Image:
    """Piece by piece: at once it would hold five copies of the photo, a gigabyte for one of 50 megapixels."""
    rgb = Image.new("RGB", image.size)
    for left, top in itertools.product(range(0, image.width, _PIECE), range(0, image.height, _PIECE)):
        box = (left, top, min(left + _PIECE, image.width), min(top + _PIECE, image.height))
        rgba = image.crop(box).convert("RGBA")
        white = Image.new("RGBA", rgba.size, "white")
        rgb.paste(Image.alpha_composite(white, rgba).convert("RGB"), box)
    return rgb
