"""Shows where in a photo the evidence for its label is, as a grid and as an overlay picture."""

import base64
import io
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from ml.model.image import Decoded, Resize

_COLOUR = (255, 80, 0)
_OPACITY = 0.65
_SIDE = 112  # pixels; the overlay is smooth, so a browser can enlarge it


@dataclass(frozen=True, slots=True)
class Explanation:
    """Where the evidence is.

    Attributes:
        grid: rows of numbers from 0 (no evidence) to 1 (the maximum in this photo).
        box: left, top, right and bottom of the part of the photo that the grid covers, as fractions of its
            width and height after EXIF rotation.
        overlay: a transparent PNG to show over that part, as a data URL.
    """

    grid: list[list[float]]
    box: tuple[float, float, float, float]
    overlay: str


def explain(evidence: NDArray[np.float32], label: int, photo: Decoded, resize: Resize) -> Explanation:
    """Show where the evidence for a class, compared with the other classes, is.

    Args:
        evidence: [classes, h, w], the evidence at each place for each class.
        label: index of the class to explain.
        photo: the decoded photo.
        resize: how the photo became a square.
    """
    evidence = np.where(np.isfinite(evidence), evidence, 0).astype(np.float64)
    others = np.delete(evidence, label, axis=0).mean(0)
    heat = evidence[label] - others
    # If all evidence is against the class, its bias decided: show the places with the least against it.
    heat = np.maximum(heat - (0 if heat.max() > 0 else heat.min()), 0)
    heat = heat / max(float(heat.max()), 1e-9)
    grid = [[round(value, 3) for value in row] for row in heat.tolist()]
    return Explanation(grid, _box(photo, resize), _overlay(heat))


def _box(photo: Decoded, resize: Resize) -> tuple[float, float, float, float]:
    if resize == "squash":
        return 0.0, 0.0, 1.0, 1.0
    side = min(photo.width, photo.height)
    left = round((photo.width - side) / 2 / photo.width, 6)
    top = round((photo.height - side) / 2 / photo.height, 6)
    return left, top, round(1 - left, 6), round(1 - top, 6)


def _overlay(heat: NDArray[np.float64]) -> str:
    alpha = Image.fromarray((heat * 255 * _OPACITY).astype(np.uint8), "L")
    picture = Image.new("RGBA", (_SIDE, _SIDE), _COLOUR)
    picture.putalpha(alpha.resize((_SIDE, _SIDE), Image.Resampling.BICUBIC))
    buffer = io.BytesIO()
    picture.save(buffer, "PNG", compress_level=1)
    return f"data:image/png;base64,{base64.b64encode(buffer.getvalue()).decode()}"
