"""The boxes of AVIF and HEIC: what is found out without a decoder, and that the walk over them is bounded."""

import struct
from dataclasses import replace

import pytest
from PIL import Image

from ml.model import heic
from ml.model.errors import BrokenImageError, UnsupportedImageError
from ml.model.formats import inspect
from ml.model.image import decode
from scripts.stress.heif import (
    HEIC_INSTALLED,
    box,
    boxes,
    coded,
    full_box,
    grid,
    size_box,
    small,
    turn_box,
    written,
)
from tests.conftest import REQUIRE_ALL, not_installed
from tests.helpers.photo_files import alpha_box, depth_box, mirror_box

LIMIT = 10**8
AV1, HEVC = b"av01", b"hvc1"
IMAGE = small(AV1)
ORIENTATIONS = {  # by turns anticlockwise and the axis of mirroring, as EXIF states them
    (None, None): 1, (None, 1): 2, (2, None): 3, (None, 0): 4, (1, 0): 5, (3, None): 6, (1, 1): 7,
    (1, None): 8,
}  # fmt: skip

needs_heic = pytest.mark.skipif(not HEIC_INSTALLED and not REQUIRE_ALL, reason=not_installed("pillow-heif"))


def with_properties(*properties: bytes, item=IMAGE):
    return replace(item, properties=item.properties + properties)


@pytest.mark.parametrize(("turned", "orientation"), ORIENTATIONS.items())
def test_orientation_of_avif(turned, orientation):
    quarters, axis = turned
    properties = [turn_box(quarters)] if quarters is not None else []
    properties += [mirror_box(axis)] if axis is not None else []
    assert inspect(written(with_properties(*properties)), LIMIT).orientation == orientation


@needs_heic
def test_heic_is_turned_and_cropped_by_its_decoder():
    image = coded(Image.new("RGB", (128, 64)), HEVC)
    crop = box(b"clap", struct.pack(">8I", 100, 1, 50, 1, 0, 1, 0, 1))
    photo = inspect(written(with_properties(crop, turn_box(1), item=image)), LIMIT)
    assert (photo.kind, photo.width, photo.height, photo.orientation) == ("HEIF", 50, 100, 1)
    assert decode(written(with_properties(crop, turn_box(1), item=image)), 32).shape == (32, 32, 3)


@needs_heic
def test_the_pixels_decide_between_avif_and_heic_and_the_brand_does_not():
    assert inspect(written(IMAGE, brand=b"mif1"), LIMIT).kind == "AVIF"
    assert inspect(written(IMAGE, brand=b"heic"), LIMIT).kind == "AVIF"
    assert inspect(written(small(HEVC), brand=b"mif1"), LIMIT).kind == "HEIF"
    for item, brand in ((IMAGE, b"heic"), (small(HEVC), b"mif1"), (small(HEVC), b"avif")):
        assert decode(written(item, brand=brand), 32)[0, 0, 0] > 250


def test_memory_grows_with_what_there_is():
    plain = inspect(written(IMAGE), LIMIT).pixel_bytes
    full = inspect(written(coded(Image.new("RGB", (64, 64)), AV1, subsampling="4:4:4")), LIMIT).pixel_bytes
    auxiliary = replace(with_properties(alpha_box(AV1)), auxiliary_of=0)
    alpha = inspect(written(IMAGE, auxiliary), LIMIT).pixel_bytes
    depth = inspect(written(IMAGE, replace(with_properties(depth_box()), auxiliary_of=0)), LIMIT).pixel_bytes
    assert plain == depth < alpha < full
    assert not inspect(written(IMAGE), LIMIT).bounded  # so it is always decoded in the sandbox


def test_no_decoder_sees_metadata():
    photo = inspect(written(IMAGE, metadata=b"Exif\0\0MM\0*\0\0\0\x08\0\0"), LIMIT)
    assert b"Exif\0mdat" not in photo.essential
    assert photo.essential.count(b"Exif") == 1  # its content; what it is, is gone
    assert decode(written(IMAGE, metadata=b"\xff\xff\xff\xffno EXIF at all"), 32).shape == (32, 32, 3)


def test_only_what_is_needed_has_to_be_there():
    whole = written(IMAGE, replace(IMAGE, hidden=True))
    assert inspect(whole[: -len(IMAGE.content)], LIMIT).width == 64  # the other image is cut off
    with pytest.raises(BrokenImageError):
        inspect(whole[: -len(IMAGE.content) - 1], LIMIT)
    assert inspect(whole + b"\0\0\0\x20mpvd", LIMIT).width == 64  # a film behind it, cut


def damaged(name: bytes, content: bytes) -> bytes:
    """A file one of whose boxes about the items has another content."""
    data = written(IMAGE)
    meta = dict(boxes(data))[b"meta"]
    inner = [box(each, content if each == name else body) for each, body in boxes(meta[4:])]
    return data.replace(box(b"meta", meta), box(b"meta", meta[:4], *inner))


@pytest.mark.parametrize(
    ("name", "content"),
    [
        (b"pitm", bytes(4) + b"\0\7"), (b"pitm", b""), (b"iinf", b""), (b"iinf", bytes(6)),
        (b"iloc", bytes(6)),
        (b"iloc", bytes(4) + b"\x44\0\xff\xff"), (b"iloc", bytes(4) + b"\x44\0\0\1\0\1\0\0\xff\xff"),
        (b"iprp", b""), (b"iprp", box(b"ipco")), (b"iprp", box(b"ipma", bytes(3) + b"\1\xff\xff\xff\xff")),
        (b"iprp", box(b"ipco", size_box(0, 64)) + full_box(b"ipma", b"\0\0\0\1\0\1\1\1")),
        (b"iprp", struct.pack(">I4s", 3, b"ipco")),
    ],
)  # fmt: skip
def test_damaged_boxes(name, content):
    with pytest.raises(BrokenImageError):
        inspect(damaged(name, content), LIMIT)


def test_codings_that_are_not_supported_are_named():
    with pytest.raises(UnsupportedImageError, match="'j2k1'"):
        inspect(written(replace(IMAGE, kind=b"j2k1")), LIMIT)
    with pytest.raises(UnsupportedImageError, match="derived twice"):
        inspect(written(grid(1, 1, 64, 64, [1]), grid(1, 1, 64, 64, [2]), IMAGE), LIMIT)


@needs_heic
def test_without_its_decoder_heic_is_unsupported(monkeypatch):
    monkeypatch.setattr(heic, "installed", lambda: False)
    with pytest.raises(UnsupportedImageError, match=r"send a JPEG instead, .* requirements-heic\.txt"):
        inspect(written(small(HEVC)), LIMIT)
    assert inspect(written(IMAGE), LIMIT).kind == "AVIF"
