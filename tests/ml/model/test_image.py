"""Every format and mode gives the pixels that a person would see; every broken file gives a clear error."""

import contextlib
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from ml.model.image import (
    DEFAULT_MAX_PIXELS,
    BrokenImageError,
    TooManyPixelsError,
    UnsupportedImageError,
    decode,
    inspect,
    to_rgb,
)
from scripts.common.pictures import encoded
from tests.conftest import BLUE, RED, coloured, encode
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S

UPRIGHT = coloured(RED, 96, 64)
UPRIGHT[:20, :30] = (0, 255, 0)  # a corner, so that turning shows


def close(a: np.ndarray, b: np.ndarray, tolerance: float) -> bool:
    return float(np.abs(a.astype(int) - b.astype(int)).mean()) <= tolerance


@pytest.mark.parametrize(
    ("form", "options", "tolerance"),
    [
        ("PNG", {}, 0), ("BMP", {}, 0), ("WEBP", {"lossless": True}, 0), ("GIF", {}, 12),
        ("AVIF", {"quality": 95}, 5),
        ("JPEG", {"quality": 95}, 4), ("JPEG", {"quality": 95, "progressive": True}, 4),
    ],
)  # fmt: skip
def test_formats(form, options, tolerance):
    expected = decode(encode(UPRIGHT, "PNG"), 32)
    found = decode(encode(UPRIGHT, form, **options), 32)
    assert found.shape == (32, 32, 3)
    assert found.dtype == np.uint8
    assert close(found, expected, tolerance)


TURNED = {
    1: lambda a: a, 2: lambda a: a[:, ::-1], 3: lambda a: a[::-1, ::-1], 4: lambda a: a[::-1],
    5: lambda a: a.swapaxes(0, 1), 6: lambda a: np.rot90(a, 1), 7: lambda a: np.rot90(a, 2).swapaxes(0, 1),
    8: lambda a: np.rot90(a, -1),
}  # fmt: skip


@pytest.mark.parametrize("orientation", TURNED)
@pytest.mark.parametrize("resize", ["center_crop", "squash"])
def test_exif_orientation_is_undone(orientation, resize):
    exif = Image.Exif()
    exif[0x0112] = orientation
    stored = np.ascontiguousarray(TURNED[orientation](UPRIGHT))
    turned = decode(encode(stored, "PNG", exif=exif), 32, resize)
    assert close(turned, decode(encode(UPRIGHT, "PNG"), 32, resize), 0.5)


def test_center_crop_and_squash_see_different_parts():
    wide = np.zeros((40, 120, 3), np.uint8)
    wide[:, :30], wide[:, 40:80] = RED, BLUE
    cropped, squashed = (decode(encode(wide, "PNG"), 32, resize) for resize in ("center_crop", "squash"))
    assert (cropped[:, 2:-2] == BLUE).all()  # the filter looks a little over the edge
    assert (squashed[:, :6] == RED).all()


def save(image: Image.Image, form: str = "PNG", **options: object) -> bytes:
    return encoded(image, form, **options)


def test_modes():
    colour = Image.fromarray(UPRIGHT)
    expected = decode(save(colour), 32)
    assert close(decode(save(colour.convert("CMYK"), "JPEG", quality=95), 32), expected, 8)
    assert close(decode(save(colour.convert("P", palette=Image.Palette.ADAPTIVE)), 32), expected, 8)
    grey = decode(save(colour.convert("L")), 32)
    assert (grey[..., 0] == grey[..., 2]).all()
    deep = (np.asarray(colour.convert("L")).astype(np.uint16) << 8) + 77
    assert close(decode(save(Image.fromarray(deep)), 32), grey, 1)
    assert set(np.unique(decode(save(Image.new("1", (20, 20), 1)), 8))) == {255}


def test_transparency_becomes_white():
    image = Image.new("RGBA", (20, 20), (255, 0, 0, 0))
    assert (decode(save(image), 8) == 255).all()
    assert (decode(save(Image.new("LA", (20, 20), (0, 0))), 8) == 255).all()
    palette = Image.new("P", (20, 20), 0)
    assert (decode(save(palette, transparency=0), 8) == 255).all()


def test_a_large_transparent_photo_has_no_seams():
    random = np.random.default_rng(0)
    image = Image.fromarray(random.integers(0, 256, (1030, 2051, 4), np.uint8), "RGBA")
    white = Image.new("RGBA", image.size, "white")
    whole = Image.alpha_composite(white, image).convert("RGB")
    assert np.array_equal(np.asarray(to_rgb(image)), np.asarray(whole))


_PEAK = """
import re, sys
from pathlib import Path
from ml.model.image import decode

def peak():
    return int(re.search(r"VmHWM:\\s+(\\d+) kB", Path("/proc/self/status").read_text())[1])

data = Path(sys.argv[1]).read_bytes()
before = peak()
decode(data)
print(peak() - before)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="no /proc")
def test_a_transparent_photo_needs_little_extra_memory(tmp_path):
    (tmp_path / "photo.png").write_bytes(save(Image.new("RGBA", (4096, 3072), (10, 20, 30, 128))))
    command = [sys.executable, "-c", _PEAK, tmp_path / "photo.png"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True, cwd=ROOT)
    assert int(shown.stdout) * 1024 / (4096 * 3072) < 13  # bytes a pixel: 4 decoded, and 4 as RGB


def test_the_first_frame_of_an_animation():
    first, second = Image.new("RGB", (20, 20), RED), Image.new("RGB", (20, 20), BLUE)
    for form in ("GIF", "WEBP", "PNG"):
        data = save(first, form, save_all=True, append_images=[second], lossless=True)
        assert close(decode(data, 8), np.full((8, 8, 3), RED, np.uint8), 3)


def test_a_large_jpeg_decoded_at_reduced_scale_looks_the_same():
    large = np.kron(coloured(RED, 90, 60), np.ones((32, 32, 1))).astype(np.uint8)
    fast = decode(encode(large, "JPEG", quality=92), 224)
    full = decode(encode(large, "PNG"), 224)
    assert close(fast, full, 2)


@pytest.mark.parametrize("data", [b"", b"plain text", b"<svg/>", b"RIFF1234WAVE", encode(UPRIGHT, "TIFF")])
def test_other_content_is_unsupported(data):
    with pytest.raises(UnsupportedImageError):
        decode(data)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
@pytest.mark.parametrize("share", [0.05, 0.3, 0.8])
def test_truncated_files(form, share):
    data = encode(coloured(RED, 200, 150), form)
    with pytest.raises(BrokenImageError):
        decode(data[: max(12, int(len(data) * share))])


def test_random_damage_raises_only_image_errors():
    random = np.random.default_rng(0)
    for form in ("JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"):
        good = np.frombuffer(encode(UPRIGHT, form), np.uint8)
        for _ in range(40):
            bad = good.copy()
            bad[random.integers(0, len(bad), 8)] = random.integers(0, 256, 8)
            with contextlib.suppress(BrokenImageError, UnsupportedImageError, TooManyPixelsError):
                assert decode(bad.tobytes(), 16).shape == (16, 16, 3)


NOISE = np.random.default_rng(0).integers(0, 256, (120, 200, 3), np.uint8)


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("size", [(200, 120), (1200, 900)])  # the larger one is decoded at a reduced scale
def test_a_jpeg_may_lack_its_end_but_nothing_else(progressive, size):
    whole = save(Image.fromarray(NOISE).resize(size), "JPEG", progressive=progressive)
    for end in (len(whole) - 1, len(whole) - 2):
        assert np.array_equal(decode(whole[:end]), decode(whole))
    scan = whole.index(b"\xff\xda")
    for end in (*range(len(whole) - 40, len(whole) - 4, 7), *range(scan + 20, len(whole), len(whole) // 30)):
        with pytest.raises(BrokenImageError):
            decode(whole[:end])


def test_a_jpeg_of_several_scans_without_its_end():
    """A colour may be missing."""
    one = save(Image.fromarray(NOISE).convert("L"), "JPEG")
    frame = one.index(b"\xff\xc0")
    three = one[: frame + 2] + b"\0\x11" + one[frame + 4 : frame + 9] + b"\3\1\x11\0\2\x11\0\3\x11\0"
    three += one[frame + 2 + int.from_bytes(one[frame + 2 : frame + 4]) :]
    with pytest.raises(BrokenImageError):
        decode(three[:-2])
    decode(three)  # browsers show it, too


@pytest.mark.parametrize("size", [(8160, 6144), (8192, 6144)])
def test_jpegs_of_fifty_megapixels_are_within_the_default_limit(size):
    structure = inspect(save(Image.new("L", size), "JPEG"), DEFAULT_MAX_PIXELS)
    assert structure.memory(224) < 8_000_000


def test_a_jpeg_that_is_decoded_at_a_reduced_scale_may_have_four_times_the_pixels():
    photo = Image.new("RGB", (1800, 1000))
    assert not decode(save(photo, "JPEG"), max_pixels=450_000).any()
    for data, limit in (
        (save(photo, "JPEG"), 449_999), (save(photo, "PNG"), 1_799_999),
        (save(photo.resize((800, 800)), "JPEG"), 639_999),
    ):  # fmt: skip
        with pytest.raises(TooManyPixelsError):
            decode(data, max_pixels=limit)


def test_the_limit_is_checked_before_decoding():
    with pytest.raises(TooManyPixelsError, match="limit of 6,000"):
        decode(encode(UPRIGHT, "PNG"), max_pixels=6000)
    bomb = bytearray(encode(UPRIGHT, "BMP"))
    bomb[18:26] = (60000).to_bytes(4, "little") * 2
    with pytest.raises(TooManyPixelsError):
        decode(bytes(bomb))


_HUGE_GIF = """
import resource, sys
from ml.model.image import TooManyPixelsError, decode

resource.setrlimit(resource.RLIMIT_AS, (2 << 30, 2 << 30))
try:
    decode(bytes.fromhex(sys.argv[1]))
except TooManyPixelsError as error:
    print(error)
"""


def test_the_limit_is_checked_before_a_gif_canvas_is_allocated():
    screen = b"GIF89a" + b"\xff" * 4 + b"\0\0\0"  # 65,535 x 65,535: four gigabytes
    restore_to_background = b"!\xf9\4\x08\0\0\0\0"
    frame = b"," + bytes(4) + b"\xff" * 4 + b"\0" + b"\2\2\x4c\1\0"
    photo = screen + restore_to_background + frame + b";"
    command = [sys.executable, "-c", _HUGE_GIF, photo.hex()]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=HANG_S)
    assert "more pixels than the limit of 50,000,000" in done.stdout, done.stderr


def test_a_photo_with_broken_exif_is_decoded():
    data = encode(UPRIGHT, "JPEG", exif=b"Exif\0\0MM\0*\xff\xff\xff\xffgarbage")
    assert decode(data, 16).shape == (16, 16, 3)


def test_nothing_warns_of_damaged_metadata():
    exif = Image.Exif()
    exif[0x010E] = "a description of some length"
    decode(encode(coloured(RED), "JPEG", exif=exif.tobytes()[:-20]))  # truncated; a warning is an error here
