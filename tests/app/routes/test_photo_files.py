"""A photo gets the same answer in every file format, from the service as it runs."""

import io
import urllib.request
from collections.abc import Iterator

import pytest
from PIL import Image

from scripts.common.pictures import encoded
from scripts.stress.heif import HEIC_INSTALLED
from tests.conftest import REQUIRE_ALL, not_installed
from tests.helpers import photo_files
from tests.helpers.paths import ROOT
from tests.helpers.service import Service, running
from tests.helpers.waiting import HANG_S

CODINGS = [
    pytest.param(b"av01", id="AVIF"),
    pytest.param(
        b"hvc1",
        id="HEIC",
        marks=pytest.mark.skipif(not HEIC_INSTALLED and not REQUIRE_ALL, reason=not_installed("pillow-heif")),
    ),
]
DAMAGED = photo_files.damaged()
VARIANTS = sorted(photo_files.variants(b"av01"))


@pytest.fixture(scope="module")
def service() -> Iterator[Service]:
    with running(MAX_CONCURRENCY="1", LOG_LEVEL="error") as each:
        each.wait()
        yield each


def probabilities(service: Service, photo: bytes) -> dict[str, float]:
    status, answer = service.predict(photo)
    assert status == 200, answer
    found: dict[str, float] = answer["probabilities"]
    return found


def same(service: Service, photo: bytes, expected: bytes, tolerance: float) -> bool:
    found = probabilities(service, photo)
    return probabilities(service, expected) == pytest.approx(found, abs=tolerance)


@pytest.mark.parametrize("name", DAMAGED)
def test_a_file_with_a_flaw_that_browsers_overlook(service, name):
    photo, shown = DAMAGED[name]
    assert same(service, photo, shown, 0.005)


def test_a_png_without_a_picture(service):
    good = encoded(photo_files.SMALL, "PNG")
    at = good.index(b"IDAT") + 4
    for bad in (good[:at] + b"garbage" * 9 + good[at + 63 :], good[: len(good) // 2]):
        assert service.predict(bad)[0] == 422


@pytest.mark.parametrize("kind", CODINGS)
@pytest.mark.parametrize("name", VARIANTS)
def test_avif_and_heic_are_answered_like_jpeg(service, kind, name):
    photo, shown = photo_files.variants(kind)[name]()
    assert same(service, photo, encoded(shown, "JPEG", quality=95), 0.03)


@pytest.mark.parametrize("kind", CODINGS)
def test_a_cut_avif_or_heic_is_rejected(service, kind):
    for name in ("plain", "tiles, turned", "transparent"):
        photo, _ = photo_files.variants(kind)[name]()
        for end in (20, len(photo) // 2, len(photo) * 3 // 4, len(photo) - 100, len(photo) - 1):
            assert service.predict(photo[:end])[0] == 422


@pytest.mark.parametrize("kind", CODINGS)
def test_the_name_and_the_type_of_a_file_decide_nothing(service, kind):
    photo, _ = photo_files.variants(kind)["plain"]()
    head = b'--b\r\nContent-Disposition: form-data; name="file"; filename="photo.jpg"\r\n'
    form = head + b"Content-Type: image/jpeg\r\n\r\n" + photo + b"\r\n--b--\r\n"
    request = urllib.request.Request(
        f"http://127.0.0.1:{service.port}/predict", form, {"Content-Type": "multipart/form-data; boundary=b"}
    )
    with urllib.request.urlopen(request, timeout=HANG_S) as response:
        assert response.status == 200


@pytest.mark.parametrize("size", [(8160, 6144), (8192, 6144)])
def test_photos_of_fifty_megapixels(service, size):
    photo = encoded(photo_files.PHOTO.resize(size, Image.Resampling.NEAREST), "JPEG", quality=30)
    assert same(service, photo, encoded(photo_files.PHOTO, "JPEG"), 0.1)


def test_a_film_is_unsupported_and_so_are_other_codings(service):
    film = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom" + bytes(100)
    status, problem = service.predict(film)
    assert (status, "AVIF or HEIC" in problem["detail"]) == (415, True)
    photo, _ = photo_files.variants(b"av01")["plain"]()
    status, problem = service.predict(photo.replace(b"av01", b"vvc1"))
    assert (status, "'vvc1'" in problem["detail"]) == (415, True)


@pytest.mark.skipif(not HEIC_INSTALLED and not REQUIRE_ALL, reason=not_installed("pillow-heif"))
@pytest.mark.parametrize(
    ("module", "reason", "warns"),
    [
        ("import sys; sys.modules['pillow_heif'] = None", "no decoder is installed", False),
        ("import pillow_heif; pillow_heif.libheif_version = lambda: '1.23.5'", "is older than 1.23.6", True),
    ],
)  # fmt: skip
def test_heic_without_a_safe_decoder(tmp_path, module, reason, warns):
    """Python imports sitecustomize at its start, in each process of the service."""
    (tmp_path / "sitecustomize.py").write_text(module)
    photo, _ = photo_files.variants(b"hvc1")["plain"]()
    with running(MAX_CONCURRENCY="1", LOG_LEVEL="warning", PYTHONPATH=f"{tmp_path}:{ROOT}") as service:
        service.wait()
        status, problem = service.predict(photo)
        assert status == 415
        assert reason in problem["detail"]
        assert "send a JPEG instead" in problem["detail"]
        assert "requirements-heic.txt" in problem["detail"]
        assert service.predict(encoded(photo_files.PHOTO, "AVIF"))[0] == 200
        if warns:
            assert "HEIC photos are rejected" in service.process.stdout.readline()
        assert service.end() == (0, "", "")


def test_files_of_the_cases_are_what_they_are_said_to_be():
    for name in ("JPEG without its end", "progressive JPEG without its end"):
        assert not DAMAGED[name][0].endswith(b"\xff\xd9")
    with Image.open(io.BytesIO(DAMAGED["16-bit grey PNG with a transparent colour"][0])) as image:
        assert (image.mode, image.info["transparency"]) == ("I;16", 0x1234)
