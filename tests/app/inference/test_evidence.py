"""The evidence is where the animal is: photos pasted onto one half of a canvas."""

import io
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
from PIL import Image, ImageOps

from app.inference.classify import classify
from app.inference.decoding import Decoder
from app.inference.engine import Engine
from app.inference.loading import load
from app.settings import EMBEDDED, Settings
from app.telemetry.metrics import Metrics
from tests.conftest import encode
from tests.helpers.beside import camera_photos
from tests.helpers.paths import ROOT

PHOTOS = ROOT / "tests" / "photos"
SIDES = ("left", "right", "top", "bottom")
CANVASES = ((128, 128, 128), (0, 0, 0), (255, 255, 255))
LEAST = 0.95  # of the cases

Case = tuple[Image.Image, str, tuple[int, int, int], int]
"""A photo, the side of the canvas that it goes on, the canvas's colour, and its height and width."""


@pytest.fixture(scope="module", params=["onnx", "torch"])
def engine(request: pytest.FixtureRequest) -> Engine:
    return load(EMBEDDED, request.param, 1)


def pasted(photo: Image.Image, side: str, colour: tuple[int, int, int], size: int) -> bytes:
    """Return a square canvas with the photo in the middle of one half, as large as possible."""
    half = (size // 2, size) if side in ("left", "right") else (size, size // 2)
    fitted = ImageOps.contain(photo, half, Image.Resampling.BICUBIC)
    x, y = (half[0] - fitted.width) // 2, (half[1] - fitted.height) // 2
    canvas = Image.new("RGB", (size, size), colour)
    canvas.paste(fitted, (x + size // 2 * (side == "right"), y + size // 2 * (side == "bottom")))
    return encode(np.asarray(canvas), quality=90)


def share(grid: np.ndarray, side: str) -> float:
    """Return the fraction of the heat in that half; cells in the middle count half."""
    if side in ("top", "bottom"):
        grid = grid.T
    if side in ("right", "bottom"):
        grid = grid[:, ::-1]
    width = grid.shape[1]
    inside = grid[:, : width // 2].sum() + (grid[:, width // 2].sum() / 2 if width % 2 else 0)
    return float(inside / grid.sum())


def found(engine: Engine, cases: list[Case]) -> float:
    """Return the fraction of cases whose evidence is in the photo's half."""
    hits = 0
    for number in range(0, len(cases), 8):
        part = cases[number : number + 8]
        photos = [pasted(*case) for case in part]
        decoder = Decoder(Settings(), Metrics())
        predictions = classify(engine, decoder, photos, Settings(), Metrics(), explained=True)
        for prediction, (_, side, _, _) in zip(predictions, part, strict=True):
            assert prediction.explanation is not None
            assert prediction.explanation.box == (0, 0, 1, 1)
            hits += share(np.array(prediction.explanation.grid), side) > 0.5
    print(f"{engine.name}: {hits} of {len(cases)}, {hits / len(cases):.1%}")
    return hits / len(cases)


def crops(photo: Image.Image) -> Iterator[Image.Image]:
    """Return the photo, the photo without a tenth on each side, and both mirrored."""
    x, y = photo.width // 10, photo.height // 10
    for crop in (photo, photo.crop((x, y, photo.width - x, photo.height - y))):
        yield crop
        yield ImageOps.mirror(crop)


def test_the_evidence_is_in_the_half_with_the_photo(engine: Engine) -> None:
    photos = [Image.open(PHOTOS / name).convert("RGB") for name in ("cat.jpg", "dog.jpg")]
    shown = [crop for photo in photos for crop in crops(photo)]
    sizes = itertools.cycle((224, 320, 500, 900))
    cases = [(s, side, c, next(sizes)) for s, side, c in itertools.product(shown, SIDES, CANVASES)]
    assert len(cases) == 96
    assert found(engine, cases) >= LEAST


def test_the_evidence_is_right_for_camera_photos(engine: Engine) -> None:
    pictures = (Image.open(io.BytesIO(photo)) for photo in camera_photos().values())
    photos = [ImageOps.exif_transpose(picture).convert("RGB") for picture in pictures]
    # Each on every side, by turns on each canvas.
    canvases = itertools.cycle(CANVASES)
    cases = [(photo, side, next(canvases), 500) for photo in photos for side in SIDES]
    assert found(engine, cases) >= LEAST


def test_share_counts_half_of_the_middle_cells() -> None:
    grid = np.arange(9).reshape(3, 3)
    assert share(grid, "left") == pytest.approx((0 + 3 + 6 + (1 + 4 + 7) / 2) / 36)
    assert share(grid, "top") == pytest.approx((0 + 1 + 2 + (3 + 4 + 5) / 2) / 36)
    for one, other in (("left", "right"), ("top", "bottom")):
        assert share(grid, one) + share(grid, other) == pytest.approx(1)
    assert share(np.eye(2), "left") == 0.5
