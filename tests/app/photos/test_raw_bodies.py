"""A photo as the body itself: its content decides, whatever type its client claims, and compressed or not."""

import gzip
import shutil
import subprocess
import zlib
from pathlib import Path

import pytest

from tests.app.photos.test_forms import form, named, post
from tests.app.routes.test_predict import RED_JPEG, is_problem
from tests.conftest import needs
from tests.helpers.served import served

TYPES = [
    None, "", "application/octet-stream", "image/tiff", "image/*", "text/plain", "binary/octet-stream",
    "application/x-www-form-urlencoded", "application/json", "multipart/mixed; boundary=x", "no type", "é",
]  # fmt: skip
RAW_DEFLATE = zlib.compressobj(wbits=-15)
COMPRESSED = {
    "gzip": gzip.compress,
    "X-GZIP": gzip.compress,
    "deflate": zlib.compress,
    " deflate ": lambda data: (raw := zlib.compressobj(wbits=-15)).compress(data) + raw.flush(),
    "identity": bytes,
}


@pytest.mark.parametrize("kind", TYPES)
def test_the_content_decides(client, kind):
    assert client.post("/predict", data=RED_JPEG, content_type=kind).get_json()["label"] == "red"


@needs("curl")
def test_curl_sends_a_photo_as_a_web_form(make_app, tmp_path: Path) -> None:
    (tmp_path / "cat.jpg").write_bytes(RED_JPEG)
    with served(make_app) as service:
        url = f"http://127.0.0.1:{service.server.port}/predict"
        for options in (["--data-binary", "@cat.jpg"], ["-T", "cat.jpg", "-X", "POST"]):
            curl = [shutil.which("curl") or "", "-sS", *options, url]
            done = subprocess.run(curl, cwd=tmp_path, capture_output=True, text=True, check=True)
            assert '"label":"red"' in done.stdout


def test_text_is_told_from_photos(client):
    for text in (
        b"photo.jpg",
        b"file=photo.jpg",
        b"\xef\xbb\xbf<svg>",
        b"<svg xmlns='http://www.w3.org/2000/svg'/>",
    ):
        detail = is_problem(client.post("/predict", data=text), 415)["detail"]
        assert "image" in detail or "JPEG" in detail


@pytest.mark.parametrize("encoding", COMPRESSED)
def test_a_compressed_body(client, encoding):
    compress, headers = COMPRESSED[encoding], {"Content-Encoding": encoding}
    assert client.post("/predict", data=compress(RED_JPEG), headers=headers).get_json()["label"] == "red"
    body = compress(form((named("file", "x"), RED_JPEG)))
    kind = "multipart/form-data; boundary=XX"
    answer = client.post("/predict", data=body, headers=headers, content_type=kind)
    assert answer.get_json()["label"] == "red"


@pytest.mark.parametrize("encoding", ["br", "zstd", "compress", "gzip, gzip", "x" * 3000])
def test_another_encoding_is_named(client, encoding):
    response = client.post("/predict", data=RED_JPEG, headers={"Content-Encoding": encoding})
    detail = is_problem(response, 415)["detail"]
    assert repr(encoding[:40]) in detail
    assert "gzip" in detail
    assert len(detail) < 200
    assert response.headers["Accept-Encoding"] == "gzip, deflate"


def test_a_compressed_body_that_is_broken(client):
    whole = gzip.compress(RED_JPEG)
    for body in (RED_JPEG, whole[:-9], whole[:30], whole + whole, whole[:20] + b"\0" * 100, b"\x1f"):
        is_problem(client.post("/predict", data=body, headers={"Content-Encoding": "gzip"}), 400)
    is_problem(client.post("/predict", data=b"\xff" * 99, headers={"Content-Encoding": "deflate"}), 400)
    is_problem(client.post("/predict", data=b"", headers={"Content-Encoding": "gzip"}), 400)


def test_a_compressed_body_may_become_no_larger_than_the_limit(make_app):
    """A bomb is inflated up to the limit, and no further."""
    client = make_app(max_upload_mb=1).test_client()
    headers = {"Content-Encoding": "gzip"}
    photo = RED_JPEG.ljust(1 << 20, b"\0")
    assert client.post("/predict", data=gzip.compress(photo), headers=headers).status_code == 200
    response = client.post("/predict", data=gzip.compress(photo + b"\0"), headers=headers)
    assert "larger than 1 MB" in is_problem(response, 413)["detail"]
    bomb = zlib.compressobj(9, wbits=31)
    million = bytes(1 << 20)
    body = b"".join(bomb.compress(million) for _ in range(500)) + bomb.flush()
    is_problem(client.post("/predict", data=body, headers=headers), 413)


@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_that_is_too_large_is_told_the_limit(make_app, chunked):
    with served(make_app, max_upload_mb=1) as service, service.connect() as connection:
        length = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 2000000"
        connection.sendall(b"POST /predict HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n200000\r\n" % length)
        answer = connection.recv(65536)
    assert b" 413 " in answer
    assert b"larger than 1 MB" in answer
    assert b"send a smaller photo" in answer


def test_a_form_that_is_too_large_is_told_the_limit(make_app):
    client = make_app(max_upload_mb=1).test_client()
    response = post(client, form((named("file", "x"), bytes(1 << 20))))
    assert "larger than 1 MB" in is_problem(response, 413)["detail"]
