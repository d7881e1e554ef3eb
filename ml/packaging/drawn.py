"""Pictures drawn here, of none of any classes: what a model says of them is part of its card.

No photo can stand in a card, since the copyright of each is its owner's.
"""

import base64
import dataclasses
import io
from collections.abc import Callable, Mapping, Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFilter, ImageFont

from ml.image import Resize, read
from ml.known import THRESHOLD
from ml.twin import Twin

_SIDE = 256
_SHOWN = 64


@dataclasses.dataclass(frozen=True)
class Drawn:
    """What was drawn and what was said of it.

    Attributes:
        name: what it is.
        picture: a small PNG, as base64.
        label: the class with the highest probability.
        probability: of that class.
        known: score that it shows one of the classes.
        refused: whether that is below the threshold, so that the answer is unknown.
    """

    name: str
    picture: str
    label: str
    probability: float
    known: float
    refused: bool


def ask(twin: Twin, classes: Sequence[str], size: int, resize: Resize) -> list[Drawn]:
    """Draw everything and ask the twin, which has an output `known`."""
    pictures = {name: draw() for name, draw in SITUATIONS.items()}
    pixels = np.stack([read(_png(one), size, resize).pixels for one in pictures.values()])
    answers = twin.run(pixels)
    return [
        Drawn(
            name,
            base64.b64encode(_small(picture)).decode(),
            classes[int(probabilities.argmax())],
            float(probabilities.max()),
            float(known),
            bool(known < THRESHOLD),
        )
        for (name, picture), probabilities, known in zip(
            pictures.items(), answers["probabilities"], answers["known"], strict=True
        )
    ]


def _png(picture: Image.Image) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, "PNG")
    return buffer.getvalue()


def _small(picture: Image.Image) -> bytes:
    return _png(picture.resize((_SHOWN, _SHOWN), Image.Resampling.LANCZOS).quantize(16))


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


def _face() -> Image.Image:
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


SITUATIONS: Mapping[str, Callable[[], Image.Image]] = {
    "a wall": _wall,
    "a night": _night,
    "noise": _noise,
    "stripes": _stripes,
    "text": _text,
    "a landscape": _landscape,
    "a drawn animal": _face,
    "brown strokes, as of fur": _fur,
}
