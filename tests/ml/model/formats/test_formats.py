"""A photo's structure: what decoding costs at most, and that decoders see only what decides the pixels."""

import contextlib
import io
import struct
import time
from collections.abc import Callable

import numpy as np
import pytest
from PIL import Image

from ml.model import image
from ml.model.errors import BrokenImageError, TooManyPixelsError
from ml.model.formats import inspect
from scripts.stress import bombs
from tests.conftest import RED, coloured, encode

PHOTO = coloured(RED, 96, 64)
PHOTO[:20, :30] = (0, 255, 0)
LIMIT = 10**8
SEEN_BY_DECODERS = {
    # What follows the image, or is the image, isn't left out. It costs a decoder no more than reading it.
    "JPEG, fill bytes", "JPEG, segments behind the image", "JPEG, comments between scans",
    "GIF, pixels in one-byte sub-blocks", "PNG, more pixels than it has", "WebP, frames of an animation",
    "BMP, run lengths", "BMP, run lengths of four bits", "BMP, ends of lines", "BMP, jumps",
    "BMP, one-pixel runs of a long line", "BMP, one bit per pixel", "BMP, bit fields",
}  # fmt: skip


def cpu_s(work: Callable[[], object]) -> float:
    started = time.thread_time()
    with contextlib.suppress(image.ImageError):
        work()
    return time.thread_time() - started


@pytest.mark.parametrize("kind", sorted(bombs.METADATA))
def test_the_cost_of_looking_grows_no_faster_than_the_file(kind):
    small, large = bombs.METADATA[kind](100_000), bombs.METADATA[kind](1_600_000)
    floor = 0.002  # what a busy machine adds
    cost = min(cpu_s(lambda: inspect(large, LIMIT)) for _ in range(3))  # caches may be cold, or shared
    assert cost < 16 * 8 * max(floor, cpu_s(lambda: inspect(small, LIMIT)))


@pytest.mark.parametrize("kind", sorted(name for name in bombs.METADATA if name[:4] not in ("AVIF", "HEIC")))
def test_no_decoder_sees_a_flood_of_metadata(kind):
    data = bombs.METADATA[kind](1_000_000)
    try:
        photo = inspect(data, LIMIT)
    except (BrokenImageError, TooManyPixelsError, image.UnsupportedImageError):
        return
    assert len(photo.essential) < 10_000 or kind in SEEN_BY_DECODERS


def with_metadata(form: str) -> bytes:
    exif = Image.Exif()
    exif[0x010E] = "a description"
    exif[0x0112] = 6
    options = {"icc_profile": b"not a profile" * 99, "exif": exif.tobytes()}
    if form == "GIF":
        options = {"comment": b"a comment" * 99}
    if form == "JPEG":
        options |= {"comment": b"a comment", "xmp": b"<x:xmpmeta/>", "progressive": True}
    buffer = io.BytesIO()
    Image.fromarray(PHOTO).save(buffer, form, **options, lossless=True)
    return buffer.getvalue()


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF"])
def test_photos_with_metadata_lose_nothing_but_that(form):
    data = with_metadata(form)
    photo = inspect(data, LIMIT)
    assert b"profile" not in photo.essential
    assert b"comment" not in photo.essential
    assert b"description" not in photo.essential
    with Image.open(io.BytesIO(data)) as whole, Image.open(io.BytesIO(photo.essential)) as essential:
        assert (photo.kind, photo.width, photo.height) == (form, *whole.size)
        assert np.array_equal(np.asarray(whole.convert("RGB")), np.asarray(essential.convert("RGB")))
    assert photo.orientation == (1 if form == "GIF" else 6)


def exif(*entries: tuple[int, int, int, int], order: str = ">") -> bytes:
    packed = b"".join(struct.pack(f"{order}HHIHxx", *entry) for entry in entries)
    head = (b"MM\0*" if order == ">" else b"II*\0") + struct.pack(f"{order}IH", 8, len(entries))
    return b"Exif\0\0" + head + packed


@pytest.mark.parametrize(
    ("data", "orientation"),
    [
        (exif((0x0112, 3, 1, 6)), 6),
        (exif((0x0100, 3, 1, 9), (0x0112, 3, 1, 8), order="<"), 8),
        (exif((0x0112, 3, 1, 9)), 1),  # there is no such orientation
        (exif((0x0112, 3, 5_000_000, 6)), 1),  # values that lie elsewhere
        (exif((0x0112, 5, 1, 6)), 1),
        (exif(*[(0x0100, 3, 1, 6)] * 600, (0x0112, 3, 1, 6)), 1),  # behind more entries than a photo has
        (exif((0x0112, 3, 1, 6))[:-5], 1),
        (b"Exif\0\0MM\0*\xff\xff\xff\xff", 1),
    ],
)
def test_the_orientation_is_read_from_the_first_table_only(data, orientation):
    assert inspect(encode(PHOTO, "JPEG", exif=data), LIMIT).orientation == orientation


def test_an_orientation_in_xmp_alone_turns_nothing():
    xmp = b'<x:xmpmeta xmlns:x="adobe:ns:meta/"><rdf:Description tiff:Orientation="6"/></x:xmpmeta>'
    assert np.array_equal(
        image.decode(encode(PHOTO, "JPEG", xmp=xmp), 32), image.decode(encode(PHOTO, "JPEG"), 32)
    )


def test_a_damaged_png_is_never_answered_from_a_half_black_picture():
    random = np.random.default_rng(0)
    noise = encode(random.integers(0, 256, (64, 64, 3), np.uint8), "PNG")
    for at in (len(noise) // 4, len(noise) // 2, 3 * len(noise) // 4):
        with pytest.raises(BrokenImageError):
            image.decode(noise[:at] + b"\xff" * 6 + noise[at + 6 :], 16)


def test_what_follows_a_jpeg_does_not_count():
    """As in motion photos: a video behind the image, which holds markers by chance."""
    photo = encode(PHOTO, "JPEG")
    video = np.random.default_rng(0).integers(0, 256, 9_000_000, np.uint8).tobytes()
    assert video.count(b"\xff\xda") > 100
    structure = inspect(photo + video, LIMIT)
    assert (structure.passes, structure.essential) == (1, photo)


def test_a_progressive_jpeg_of_one_scan_keeps_its_coefficients():
    photo = inspect(bombs.one_scan("CMYK", 160, 80), LIMIT)
    assert (photo.passes, photo.buffer_bytes) == (1, 2 * 160 * 80 * 4)


@pytest.mark.parametrize(
    "inserted",
    [
        b"\0" * 3,  # bytes between blocks
        b"!\xff\x0bXMP DataXMP"
        + b"<x:xmpmeta>some text</x:xmpmeta>" * 7000
        + bytes(range(255, -1, -1))
        + b"\0",
    ],
)
def test_a_gif_with_odd_blocks_is_whole(inserted):
    assert np.array_equal(image.decode(bombs.gif(inserted)), image.decode(bombs.gif(b"")))


def test_a_gif_may_have_many_sub_blocks_but_not_any_number():
    def commented(count: int) -> bytes:
        return bombs.gif(b"!\xfe" + b"\1x" * count + b"\0")

    assert np.array_equal(image.decode(commented(1000)), image.decode(bombs.gif(b"")))
    with pytest.raises(BrokenImageError):
        inspect(commented(1500), LIMIT)


def test_a_gif_s_transparency_counts_however_long_its_block_is():
    photo = Image.new("P", (16, 16), 0)
    photo.putpalette([255, 0, 0] + [0, 0, 255] * 255)
    data = bombs.encoded(photo, "GIF", transparency=0)
    start = data.index(b"!\xf9\4")
    longer = data[:start] + b"!\xf9\5" + data[start + 3 : start + 7] + b"\0" + data[start + 7 :]
    assert (image.decode(longer) == 255).all()


def test_a_png_with_many_small_chunks_is_whole():
    noise = np.random.default_rng(0).integers(0, 256, (100, 100, 3), np.uint8)
    data = encode(noise, "PNG")
    start = data.index(b"IDAT") - 4
    length = int.from_bytes(data[start : start + 4], "big")
    pixels = data[start + 8 : start + 8 + length]
    chunks = [bombs.chunk(b"IDAT", pixels[at : at + 128]) for at in range(0, length, 128)]
    small = data[:start] + b"".join(chunks) + bombs.chunk(b"IEND", b"")
    assert np.array_equal(image.decode(small, 64), image.decode(data, 64))


def test_a_png_has_one_size():
    data = encode(PHOTO, "PNG")
    larger = bombs.chunk(b"IHDR", struct.pack(">II", 9000, 9000) + data[24:29])
    with pytest.raises(BrokenImageError):
        inspect(data[:33] + larger + data[33:], LIMIT)


def test_passes_and_coefficients_of_a_jpeg():
    baseline, progressive = (
        inspect(encode(PHOTO, "JPEG", progressive=progressive), LIMIT) for progressive in (False, True)
    )
    assert (baseline.passes, baseline.buffer_bytes) == (1, 0)
    # Two bytes for each sample; each chroma channel has half the rows and columns.
    assert (progressive.passes, progressive.buffer_bytes) == (10, 96 * 64 * 3)
    with pytest.raises(BrokenImageError, match="too many parts"):
        inspect(bombs.repeated_scans(64, 64, 101), LIMIT)


@pytest.mark.parametrize(("side", "accepted"), [(32, True), (1, False)])
def test_a_webp_may_have_many_frames_but_not_for_a_few_bytes_each(side, accepted):
    first, second = (
        np.random.default_rng(seed).integers(0, 255, (side, side, 3), np.uint8) for seed in range(2)
    )
    data = encode(first, "WEBP", save_all=True, append_images=[Image.fromarray(second)], lossless=True)
    last = data.rindex(b"ANMF")
    long = data[:last] + data[last:] * 3000
    long = long[:4] + struct.pack("<I", len(long) - 8) + long[8:]
    if accepted:
        assert np.array_equal(image.decode(long, 32), image.decode(data, 32))
    else:
        with pytest.raises(BrokenImageError, match="too many parts"):
            inspect(long, LIMIT)


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_a_file_cut_anywhere_raises_only_image_errors(form):
    whole = encode(PHOTO, form)
    for end in [*range(min(len(whole), 150)), *range(150, len(whole), 97)]:
        try:
            inspect(whole[:end], LIMIT)
        except image.ImageError:
            continue
