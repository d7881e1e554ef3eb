"""Forms as clients of many kinds send them: the photo counts, and neither its name nor how it is given."""

import shutil
import subprocess
from pathlib import Path

import pytest
from flask.testing import FlaskClient

from tests.app.routes.test_predict import BLUE_PNG, RED_JPEG, is_problem
from tests.conftest import needs
from tests.helpers.served import served

LATIN = "Kätzchen.jpg"

# What comes between the boundary and the photo. Those of curl, requests, httpx, aiohttp and Node were seen;
# the others follow the documentation of the clients or bug reports.
HEADERS = {
    "curl 7, Chromium, Firefox": f'Content-Disposition: form-data; name="file"; filename="{LATIN}"',
    "curl 7 escapes": r'Content-Disposition: form-data; name="file"; filename="a\"b\\.jpg"',
    "curl 8, requests, httpx, undici": 'Content-Disposition: form-data; name="file"; filename="a%22b.jpg"',
    "curl with <": 'Content-Disposition: form-data; name="file"\r\nContent-Type: image/jpeg',
    "requests without a name": 'Content-Disposition: form-data; name="file"',
    "urllib3 1": "Content-Disposition: form-data; name=\"file\"; filename*=utf-8''K%C3%A4tzchen.jpg",
    "aiohttp": (
        "Content-Type: application/octet-stream\r\n"
        'Content-Disposition: form-data; name="file"; filename="K%C3%A4tzchen.jpg"'
    ),
    "Go": (
        'Content-Disposition: form-data; name="file"; filename="Kätz\\"chen.jpg"\r\n'
        "Content-Type: application/octet-stream"
    ),
    "Java, Apache HttpClient": (
        'Content-Disposition: form-data; name="file"; filename="K?tzchen.jpg"\r\n'
        "Content-Type: application/octet-stream\r\nContent-Transfer-Encoding: binary"
    ),
    "Java, OkHttp": (
        f'Content-Disposition: form-data; name="file"; filename="{LATIN}"\r\n'
        f"Content-Type: image/jpeg\r\nContent-Length: {len(RED_JPEG)}"
    ),
    "PowerShell -Form, .NET": (
        "Content-Type: image/jpeg\r\n"
        "Content-Disposition: form-data; name=file; filename=cat.jpg; filename*=utf-8''cat.jpg"
    ),
    ".NET, another alphabet": (
        'Content-Disposition: form-data; name=file; filename="=?utf-8?B?S8OkdHpjaGVuLmpwZw==?="; '
        "filename*=utf-8''K%C3%A4tzchen.jpg"
    ),
    "lower case, without spaces": 'content-disposition:form-data;name="file";filename="x"',
    "the name first": f'Content-Disposition: form-data; filename="{LATIN}"; name="file"',
    "a whole path": r'Content-Disposition: form-data; name="file"; filename="C:\photos\x.jpg"',
}


NAMES = {"cp932": "猫の表", "gbk": "猫乗", "big5": "貓功", "koi8-r": "кот", "utf-8": "猫"}
ENCODINGS = ["cp1252", "cp437", "utf-16-le", *NAMES]


def form(*parts: tuple[str | bytes, bytes]) -> bytes:
    """A form of these parts, each of its header lines and its data, with the boundary XX."""
    lines = [header.encode() if isinstance(header, str) else header for header, _ in parts]
    data = [data for _, data in parts]
    middle = [b"--XX\r\n%b\r\n\r\n%b\r\n" % pair for pair in zip(lines, data, strict=True)]
    return b"".join(middle) + b"--XX--\r\n"


def named(name: str | None, file_name: str | None = None) -> str:
    after = "" if file_name is None else f'; filename="{file_name}"'
    return f'Content-Disposition: form-data; name="{name}"{after}'


def post(client: FlaskClient, body: bytes, boundary: str = "boundary=XX"):
    return client.post("/predict", data=body, content_type=f"multipart/form-data; {boundary}")


@pytest.mark.parametrize("header", HEADERS.values(), ids=HEADERS)
def test_a_photo_is_found_whatever_its_client_writes_around_it(client, header):
    assert post(client, form((header, RED_JPEG))).get_json()["label"] == "red"


@pytest.mark.parametrize("encoding", ENCODINGS)
def test_a_name_may_have_any_encoding(client, encoding):
    # The last byte of 表 is a backslash in cp932, so the quote after it looks escaped.
    name = NAMES.get(encoding, "Kätzchen")
    start, end = b'Content-Disposition: form-data; name="file"; filename="', b'"'
    for header in (start + name.encode(encoding) + end, start + name.encode(encoding) + end + b"; x=y"):
        assert post(client, form((header, RED_JPEG))).get_json()["label"] == "red"


def test_every_byte_of_a_name_is_taken_except_the_end_of_a_line(client):
    for byte in set(range(256)) - {10, 13}:
        header = b'Content-Disposition: form-data; name="file"; filename="a%cb"' % byte
        assert post(client, form((header, RED_JPEG))).status_code == 200, byte


def test_boundaries(client):
    body = form((named("file", "x"), RED_JPEG))
    assert post(client, body, 'boundary="XX"').status_code == 200  # .NET
    assert post(client, body, "charset=utf-8; boundary=XX").status_code == 200
    assert post(client, b"\r\n" + body).status_code == 200
    detail = is_problem(post(client, body, ""), 400)["detail"]
    assert "let your client set the header" in detail


def test_a_file_input_without_a_file_is_left_out(client):
    chosen, empty = (named("file", "a.jpg"), RED_JPEG), (named("file", ""), b"")
    for parts in ((chosen, empty), (empty, chosen), (empty, chosen, empty)):
        assert post(client, form(*parts)).get_json()["label"] == "red"
    two = post(client, form(chosen, empty, (named("file", "b.png"), BLUE_PNG))).get_json()
    assert [one["label"] for one in two["predictions"]] == ["red", "blue"]
    is_problem(post(client, form(empty)), 400)
    # A file that was chosen and has no content is not left out: the answers would seem to be those of others.
    detail = is_problem(post(client, form(chosen, (named("file", "empty.jpg"), b""))), 400)["detail"]
    assert detail == "file 2 is empty"


def test_other_fields_are_named(client):
    detail = is_problem(post(client, form((named("image", "a.jpg"), RED_JPEG))), 400)["detail"]
    assert detail == "no file; the form has only 'image'; send the image as the multipart field 'file'"
    many = [(named(f"{'ä' * 3000}{number}", "a.jpg"), RED_JPEG) for number in range(50)]
    detail = is_problem(post(client, form(*[(header[:1500], data) for header, data in many])), 400)["detail"]
    assert len(detail) < 500
    # Beside a photo, other fields do no harm.
    form_with_more = form((named("csrf"), b"1"), (named("file", "a"), RED_JPEG), (named("x", "y"), BLUE_PNG))
    assert post(client, form_with_more).get_json()["label"] == "red"


def test_a_path_instead_of_a_photo(client):
    """`curl -F file=photo.jpg` without @."""
    assert "file=@photo.jpg" in is_problem(post(client, form((named("file"), b"photo.jpg"))), 400)["detail"]
    for kind, status in (("text/plain", 400), ("image/jpeg", 415)):  # the second one claims to be a file
        header = f"{named('file')}\r\nContent-Type: {kind}"
        is_problem(post(client, form((header, b"photo.jpg"))), status)


WHOLE = form((named("file", "x"), RED_JPEG))
BROKEN = {
    "cut off": WHOLE[:-10],
    "without the last boundary": WHOLE.removesuffix(b"--XX--\r\n"),
    "another boundary": WHOLE.replace(b"XX", b"YY"),
    "LF alone": form((named("file", "x"), b"")).replace(b"\r\n", b"\n"),
    "without Content-Disposition": form(("Content-Type: image/jpeg", RED_JPEG)),
    "another disposition": form(('Content-Disposition: attachment; filename="x"', RED_JPEG)),
    "a header without a colon": form(("no colon", RED_JPEG)),
    "a wrong length": form((f"{named('file', 'x')}\r\nContent-Length: 5", RED_JPEG)),
}


@pytest.mark.parametrize("body", BROKEN.values(), ids=BROKEN)
def test_a_broken_form(client, body):
    assert "broken" in is_problem(post(client, body), 400)["detail"]


def test_parts_and_headers_are_limited(client):
    part = (named("file", "x"), RED_JPEG)
    assert post(client, form(*[part] * 100)).status_code == 200
    sizes = [(named("size"), b"4x3")] * 100
    assert post(client, form(*[part] * 100, *sizes)).status_code == 200
    assert "100 photos" in is_problem(post(client, form(*[part] * 101)), 413)["detail"]
    assert "201 fields" in is_problem(post(client, form(*[part] * 101, *sizes, sizes[0])), 413)["detail"]
    long = (named("file", "x" * 4200), RED_JPEG)
    assert "4096 bytes" in is_problem(post(client, form(long)), 413)["detail"]
    lines = "\r\n".join([named("file", "x"), *(f"X-{number}: y" for number in range(8))])
    assert "8 header lines" in is_problem(post(client, form((lines, RED_JPEG))), 413)["detail"]


def test_the_size_before_a_photo_was_made_smaller(client):
    """The statistics of photo sizes use it, for the file at its place."""
    first, second = (named("file", "a"), RED_JPEG), (named("file", "b"), BLUE_PNG)
    sizes = (named("size"), b"4032x3024"), (named("size"), b"1000x4000")
    assert post(client, form(first, second, *sizes)).status_code == 200
    text = client.get("/metrics").text
    assert f"photo_aspect_ratio_sum {4 / 3 + 0.25}" in text
    assert "photo_short_side_pixels_sum 4024.0" in text


def test_a_size_belongs_to_the_file_at_its_place(client):
    chosen, empty = (named("file", "a"), RED_JPEG), (named("file", ""), b"")
    unknown = (named("size"), b"")
    assert post(client, form(empty, chosen, unknown, (named("size"), b"300x200"))).status_code == 200
    assert "photo_short_side_pixels_sum 200.0" in client.get("/metrics").text
    # More sizes than files say nothing.
    assert post(client, form(chosen, *[(named("size"), b"300x200")] * 3)).status_code == 200
    assert "photo_short_side_pixels_sum 400.0" in client.get("/metrics").text


@pytest.mark.parametrize(
    "size", [b"x", b"0x5", b"-1x5", b"1e3x5", b"100000x5", b"5 x5", b"NaNxinf", b"\xff" * 99]
)
def test_a_size_that_is_none(client, size):
    detail = is_problem(post(client, form((named("file", "a"), RED_JPEG), (named("size"), size))), 400)[
        "detail"
    ]
    assert "4032x3024" in detail
    assert "photo_aspect_ratio_count 0.0" in client.get("/metrics").text


@needs("curl")
def test_curl_with_a_name_that_is_not_ascii(make_app, tmp_path: Path) -> None:
    """The way that README shows."""
    (tmp_path / LATIN).write_bytes(RED_JPEG)
    with served(make_app) as service:
        url = f"http://127.0.0.1:{service.server.port}/predict"
        curl = [shutil.which("curl") or "", "-sS", "-F", f"file=@{LATIN}", url]
        done = subprocess.run(curl, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert '"label":"red"' in done.stdout
