"""Copies of photos that are kept: small, upright, without metadata, made where a decoder can do no harm."""

import io

import numpy as np
import pytest
from PIL import Image

from app.inference.decoding import Decoder
from app.settings import Settings
from app.telemetry.metrics import Metrics
from ml.model import careful, decoder
from ml.model.errors import BrokenImageError, TooCostlyError, UnsupportedImageError
from ml.model.formats import inspect
from ml.model.sandbox.sandbox import AVAILABLE
from scripts.common.pictures import encoded
from tests.helpers.paths import ROOT
from tests.helpers.photo_files import PHOTO, variants

SIDE = 1024
SECRET = b"where I live"
needs_fork = pytest.mark.skipif(not AVAILABLE, reason="this system has no fork")


@pytest.fixture(scope="module")
def photos() -> Decoder:
    return Decoder(Settings(), Metrics())


def with_metadata(image: Image.Image, form: str, orientation: int = 1) -> bytes:
    exif = Image.Exif()
    exif[0x0112], exif[0x010E] = orientation, SECRET.decode()
    exif.get_ifd(0x8825)[1] = "N"
    more = {"comment": SECRET} if form in ("JPEG", "GIF") else {"icc_profile": SECRET * 20}
    return encoded(image, form, exif=exif, **more)


def difference(copy: bytes, photo: Image.Image) -> float:
    shown = Image.open(io.BytesIO(copy)).convert("RGB")
    photo = photo.convert("RGB").resize(shown.size)
    return float(np.abs(np.asarray(shown, np.float32) - np.asarray(photo, np.float32)).mean())


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
def test_a_copy_has_no_metadata(photos: Decoder, form: str) -> None:
    data = with_metadata(PHOTO, form)
    assert SECRET in data
    copy, _ = photos.copy(data, SIDE)
    assert SECRET not in copy.essential
    image = Image.open(io.BytesIO(copy.essential))
    assert (image.format, image.mode, image.size) == ("JPEG", "RGB", PHOTO.size)
    assert not image.getexif()
    assert set(image.info) <= {"jfif", "jfif_version", "jfif_unit", "jfif_density"}
    assert difference(copy.essential, PHOTO) < (12 if form == "GIF" else 4)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_a_copy_is_upright(photos: Decoder, orientation: int) -> None:
    back = {5: 5, 6: 8, 7: 7, 8: 6}.get(orientation, orientation)
    stored = decoder.upright(PHOTO, back)
    copy, _ = photos.copy(with_metadata(stored, "JPEG", orientation), SIDE)
    assert (copy.width, copy.height) == PHOTO.size
    assert difference(copy.essential, PHOTO) < 4


@needs_fork
def test_a_copy_of_an_avif_is_upright(photos: Decoder) -> None:
    data, shown = variants(b"av01")["turned by 1"]()
    copy, _ = photos.copy(data, SIDE)
    assert difference(copy.essential, shown) < 6


@pytest.mark.parametrize(
    ("size", "expected"),
    [
        ((2016, 1512), (1024, 768)),
        ((900, 4000), (230, 1024)),
        ((1024, 1024), (1024, 1024)),
        ((40, 30), (40, 30)),
        ((5000, 1), (1024, 1)),
    ],
)
def test_the_longer_side_of_a_copy_is_limited(
    photos: Decoder, size: tuple[int, int], expected: tuple[int, int]
) -> None:
    for form in ("JPEG", "PNG"):
        copy, _ = photos.copy(encoded(PHOTO.resize(size), form), SIDE)
        assert (copy.width, copy.height) == expected
        assert Image.open(io.BytesIO(copy.essential)).size == expected


def test_the_place_of_copying_changes_nothing(photos: Decoder, monkeypatch: pytest.MonkeyPatch) -> None:
    cat = (ROOT / "tests" / "photos" / "cat.jpg").read_bytes()
    elsewhere, _ = photos.copy(cat, SIDE)
    monkeypatch.setattr(careful, "AVAILABLE", False)
    here, cpu_s = photos.copy(cat, SIDE)
    assert here == elsewhere
    assert cpu_s == 0


def test_what_can_not_be_copied_is_an_error(photos: Decoder) -> None:
    with pytest.raises(UnsupportedImageError):
        photos.copy(b"no photo", SIDE)
    with pytest.raises(BrokenImageError):
        photos.copy(encoded(PHOTO, "JPEG", progressive=False)[:2000], SIDE)
    with pytest.raises(TooCostlyError, match="limit is 64 MB"):
        photos.copy(encoded(Image.new("RGBA", (3000, 3000)), "PNG"), SIDE)


@needs_fork
@pytest.mark.parametrize("form", ["PNG", "JPEG"])
def test_what_the_process_returns_is_not_trusted(
    photos: Decoder, form: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A decoder that an attacker has taken over may return anything."""
    returned = with_metadata(PHOTO if form == "PNG" else PHOTO.resize((2000, 40)), form)
    monkeypatch.setattr(photos._sandbox, "copy", lambda *_: (returned, 0.0))
    with pytest.raises(TooCostlyError, match="something else"):
        photos.copy(encoded(PHOTO, "JPEG"), SIDE)
    returned = with_metadata(PHOTO, "JPEG")
    copy, _ = photos.copy(encoded(PHOTO, "JPEG"), SIDE)
    assert copy.essential == inspect(returned, 10**8).essential
    assert SECRET not in copy.essential
