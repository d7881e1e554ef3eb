"""One file of the data set, from its bytes to a square photo.

The nodes of a Ray cluster import this module. So it needs no package beyond those of the service.
"""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ml.data.duplicates import difference_hash
from ml.data.photo import Photo
from ml.model.image import ImageError, Resize, TooManyPixelsError, UnsupportedImageError, read

_REASONS = {UnsupportedImageError: "unsupported", TooManyPixelsError: "too_many_pixels"}


def read_file(path: Path) -> bytes | str:
    """Return the content of a file, or why it cannot be read."""
    try:
        return path.read_bytes()
    except OSError as error:
        return str(error.strerror)
    except MemoryError:
        return "not enough memory"


def decode(
    path: str, content: bytes | str, size: int, resize: Resize
) -> tuple[Photo, NDArray[np.uint8] | None]:
    """Decode one file, without raising for bad ones.

    Args:
        path: class/file.
        content: what `read_file` has returned.
        size: side of the square, in pixels.
        resize: how the photo becomes a square.

    Returns:
        The photo, and its pixels [size, size, 3], or None if it is dropped.
    """
    photo = Photo(path)
    if isinstance(content, str):
        return photo.drop("unreadable", content), None
    photo = dataclasses.replace(photo, sha256=hashlib.sha256(content).hexdigest())
    try:
        decoded = read(content, size, resize)
    except ImageError as error:
        return photo.drop(_REASONS.get(type(error), "broken"), str(error)), None
    except MemoryError:
        return photo.drop("unreadable", "not enough memory"), None
    photo = dataclasses.replace(
        photo,
        pixels_sha256=hashlib.sha256(decoded.pixels.data).hexdigest(),
        size=(decoded.width, decoded.height),
        code=difference_hash(decoded.pixels),
    )
    return photo, decoded.pixels


def decode_files(
    paths: list[str], contents: list[bytes | str], size: int, resize: Resize
) -> tuple[list[Photo], list[NDArray[np.uint8] | None]]:
    """Decode several files; see `decode`."""
    decoded = [decode(path, content, size, resize) for path, content in zip(paths, contents, strict=True)]
    return [photo for photo, _ in decoded], [pixels for _, pixels in decoded]
