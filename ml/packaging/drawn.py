"""Drawn test images: OOD pictures that this module draws, to show a model's answers to them in its card.

A card cannot contain photos, because their copyright belongs to others.
"""

import base64
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ml.data.dataset import Dataset
from ml.model.decision import is_unknown
from ml.model.image import decode
from ml.model.onnx_model import OnnxModel
from ml.packaging.perturbations import encode

_SIDE = 256
_THUMBNAIL_SIDE = 64


def classify_drawn_images(model: OnnxModel, data: Dataset) -> list[dict[str, Any]]:
    """Draw all test images and classify them.

    Args:
        model: has the output `known`.
        data: gives the classes, and how the model needs its images.

    Returns:
        For each image its `name`, `picture` (a thumbnail, PNG in base64), `label` (the most probable class),
        the `probability` of that class, `known` (the OOD score), and `refused`: whether the score is below
        the threshold, so that the answer is unknown.
    """
    pictures = {name: draw() for name, draw in DRAWINGS.items()}
    pixels = [decode(encode(one, "PNG"), data.image_size, data.resize) for one in pictures.values()]
    outputs = model.run(np.stack(pixels))
    answers = zip(pictures.items(), outputs["probabilities"], outputs["known"], strict=True)
    return [
        {
            "name": name,
            "picture": base64.b64encode(_thumbnail(picture)).decode(),
            "label": data.classes[int(probabilities.argmax())],
            "probability": float(probabilities.max()),
            "known": float(known),
            "refused": bool(is_unknown(known)),
        }
        for (name, picture), probabilities, known in answers
    ]


def _thumbnail(picture: Image.Image) -> bytes:
    small = picture.resize((_THUMBNAIL_SIDE, _THUMBNAIL_SIDE), Image.Resampling.LANCZOS)
    return encode(small.quantize(16), "PNG")


def _canvas(colour: str) -> tuple[Image.Image, ImageDraw.ImageDraw]:
    picture = Image.new("RGB", (_SIDE, _SIDE), colour)
    return picture, ImageDraw.Draw(picture)


def _wall() -> Image.Image:
    return _canvas("#d9c9b0")[0]


def _night() -> Image.Image:
    picture, draw = _canvas("#08090c")
    draw.ellipse((180, 30, 200, 50), "#e8e4c8")
    return picture


def _noise() -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (32, 32, 3), np.uint8)
    return Image.fromarray(coarse).resize((_SIDE, _SIDE), Image.Resampling.NEAREST)


def _stripes() -> Image.Image:
    picture, draw = _canvas("#e6e1da")
    for left in range(0, _SIDE, 32):
        draw.rectangle((left, 0, left + 15, _SIDE), "#6b4a2f")
    return picture


def _text() -> Image.Image:
    picture, draw = _canvas("white")
    font = ImageFont.load_default(18)
    for line in range(10):
        draw.text((16, 12 + 23 * line), "the quick brown fox jumps", "#222222", font)
    return picture


def _landscape() -> Image.Image:
    picture, draw = _canvas("#8fb8de")
    draw.rectangle((0, 150, _SIDE, _SIDE), "#5c8a3a")
    draw.polygon([(20, 150), (90, 60), (160, 150)], "#7d7f86")
    draw.ellipse((190, 30, 225, 65), "#f6e27a")
    return picture


def _animal() -> Image.Image:
    picture, draw = _canvas("#f3ead7")
    draw.polygon([(60, 110), (75, 30), (125, 75)], "#b8792f")
    draw.polygon([(196, 110), (181, 30), (131, 75)], "#b8792f")
    draw.ellipse((50, 60, 206, 216), "#c98a3d")
    for left in (90, 142):
        draw.ellipse((left, 112, left + 24, 140), "#fffbe8", "#222222", 2)
        draw.ellipse((left + 8, 116, left + 16, 138), "#222222")
    draw.polygon([(120, 158), (136, 158), (128, 168)], "#d66f79")
    for end in (150, 165, 180):
        draw.line((112, 168, 40, end), "#444444", 2)
        draw.line((144, 168, 216, end), "#444444", 2)
    return picture


def _fur() -> Image.Image:
    random, (picture, draw) = np.random.default_rng(1), _canvas("#8a6238")
    for x, y, length, shade in random.integers((0, 0, 10, 60), (_SIDE, _SIDE, 30, 200), (4000, 4)).tolist():
        draw.line((x, y, x + length // 3, y + length), (shade, shade * 3 // 4, shade // 2), 2)
    return picture.filter(ImageFilter.SMOOTH)


DRAWINGS: Mapping[str, Callable[[], Image.Image]] = {
    "a wall": _wall,
    "a night": _night,
    "noise": _noise,
    "stripes": _stripes,
    "text": _text,
    "a landscape": _landscape,
    "a drawn animal": _animal,
    "brown strokes, as of fur": _fur,
}
