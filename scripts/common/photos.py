"""Photos for the scripts: found in folders, with their labels, and made darker or less sharp."""

import io
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image, ImageEnhance, ImageFilter, ImageOps

SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".gif", ".bmp"})


@dataclass(frozen=True)
class Photo:
    """A file that should be a photo.

    Attributes:
        path: where it is.
        label: its class, the name of its folder in the folder that was named; None: not known.
    """

    path: Path
    label: str | None


def find(paths: Iterable[Path]) -> list[Photo]:
    """Return the photos among files and in folders, each folder's in order.

    Raises:
        FileNotFoundError: there is no such file or folder.
    """
    found = []
    for path in paths:
        if not path.exists():
            raise FileNotFoundError(f"there is no file or folder {path}")
        if not path.is_dir():
            found.append(Photo(path, None))
            continue
        for file in sorted(path.rglob("*")):
            parts = file.relative_to(path).parts
            hidden = any(part.startswith(".") for part in parts)
            if file.suffix.lower() in SUFFIXES and file.is_file() and not hidden:
                found.append(Photo(file, parts[0] if len(parts) > 1 else None))
    return found


def dark(photo: bytes) -> bytes:
    """Return the photo at a quarter of its brightness, as a JPEG.

    Raises:
        OSError, ValueError, Image.DecompressionBombError: it can't be read.
    """
    return _encoded(ImageEnhance.Brightness(_opened(photo)).enhance(0.25))


def blurred(photo: bytes) -> bytes:
    """Return the photo with edges spread over a twelfth of its shorter side, as a JPEG; raises as `dark`."""
    image = _opened(photo)
    return _encoded(image.filter(ImageFilter.GaussianBlur(min(image.size) / 24)))


def _opened(photo: bytes) -> Image.Image:
    with Image.open(io.BytesIO(photo)) as image:
        return ImageOps.exif_transpose(image).convert("RGB")


def _encoded(image: Image.Image) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, "JPEG", quality=90)
    return buffer.getvalue()
