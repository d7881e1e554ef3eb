"""Photos for the scripts: with the labels of their folders, darkened, and blurred."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from ml.model import photos


@dataclass(frozen=True)
class Photo:
    """A file that should be a photo.

    Attributes:
        path: of the file.
        label: its class, which is the name of its folder inside the requested folder; None: not known.
    """

    path: Path
    label: str | None


def find(paths: Iterable[Path]) -> list[Photo]:
    """Return the photos among files and in folders, each folder's in order.

    Raises:
        FileNotFoundError: there is no such file or folder.
    """
    labelled = []
    for path in paths:
        for file in photos.find(path):
            parts = file.relative_to(path).parts
            labelled.append(Photo(file, parts[0] if len(parts) > 1 else None))
    return labelled


def dark(photo: bytes) -> bytes:
    """Return the photo at a quarter of its brightness, as a JPEG.

    Raises:
        OSError, ValueError, Image.DecompressionBombError: it cannot be decoded.
    """
    return _encoded(ImageEnhance.Brightness(_decoded(photo)).enhance(0.25))


def blurred(photo: bytes) -> bytes:
    """Return the photo blurred by a 24th of its shorter side, as a JPEG; raises as `dark`."""
    image = _decoded(photo)
    return _encoded(image.filter(ImageFilter.GaussianBlur(min(image.size) / 24)))


def _decoded(photo: bytes) -> Image.Image:
    with Image.open(io.BytesIO(photo)) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
