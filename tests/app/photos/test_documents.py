"""Photos in JSON."""

import base64
import json
import re
import tracemalloc
from urllib.parse import quote

import pytest
from werkzeug.exceptions import BadRequest, RequestEntityTooLarge

from app.photos import documents
from tests.app.routes.test_predict import BLUE_PNG, RED_JPEG, is_problem

STANDARD = base64.b64encode(RED_JPEG).decode()
TEXTS = {
    "standard": STANDARD,
    "without padding": STANDARD.rstrip("="),
    "URL-safe": base64.urlsafe_b64encode(RED_JPEG).decode(),
    "lines": base64.encodebytes(RED_JPEG).decode(),
    "CR LF": STANDARD[:76] + "\r\n" + STANDARD[76:],
    "a data: URL": f"data:image/jpeg;base64,{STANDARD}",
    "without a type": f"data:;base64,{STANDARD}",
    "another type": f"DATA:text/plain;charset=utf-8;BASE64,{STANDARD}",
    "percent-encoded": f"data:image/jpeg;base64,{quote(STANDARD, safe='')}",
    "percent-encoded lines": "data:;base64,"
    + re.sub("%..", lambda code: code[0].lower(), quote(base64.encodebytes(RED_JPEG), safe="")),
}


@pytest.mark.parametrize("text", TEXTS.values(), ids=TEXTS)
def test_base64_of_every_kind(client, text):
    assert client.post("/predict", json={"image": text}).get_json()["label"] == "red"


@pytest.mark.parametrize("escaped", ["/", "+"])
def test_escapes_in_json(client, escaped):
    """PHP escapes the slash, .NET the plus sign."""
    body = json.dumps({"image": STANDARD}).replace(escaped, f"\\u{ord(escaped):04x}")
    assert client.post("/predict", data=body, content_type="application/json").get_json()["label"] == "red"


@pytest.mark.parametrize(
    "kind", ["application/json", None, "application/x-www-form-urlencoded", "text/plain"]
)
def test_the_content_decides(client, kind):
    """`curl -d` claims a web form."""
    text = json.dumps({"image": STANDARD})
    for body in (text, f"\n {json.dumps({'image': STANDARD}, indent=1)}", f"\ufeff{text}"):
        assert client.post("/predict", data=body, content_type=kind).get_json()["label"] == "red"


def test_line_breaks_that_are_not_escaped(client):
    """Strictly speaking this is no JSON, but it is what a shell makes of `base64 < photo.jpg`."""
    body = b'{"image": "%s"}' % base64.encodebytes(RED_JPEG)
    assert client.post("/predict", data=body).get_json()["label"] == "red"


def test_several_images_are_answered_in_their_order(client):
    blue = base64.b64encode(BLUE_PNG).decode()
    answer = client.post("/predict", json={"images": [STANDARD, f"data:image/png;base64,{blue}", STANDARD]})
    assert [one["label"] for one in answer.get_json()["predictions"]] == ["red", "blue", "red"]
    assert client.post("/predict", json={"images": [STANDARD]}).get_json()["label"] == "red"
    assert client.post("/predict", json={"images": [STANDARD] * 100}).status_code == 200
    assert (
        "image 2 of 2" in is_problem(client.post("/predict", json={"images": [STANDARD, "?"]}), 400)["detail"]
    )
    assert "file 2" in is_problem(client.post("/predict", json={"images": [STANDARD, ""]}), 400)["detail"]


def test_other_fields_do_no_harm(client):
    body = {"image": STANDARD, "name": "Kätzchen 🐈", "more": {"a": [1, 2.5, None]}}
    text = json.dumps(body, ensure_ascii=False).encode()
    assert client.post("/predict", data=text, content_type="application/json").get_json()["label"] == "red"


WRONG = [
    b"{}", b"[]", b'"text"', b"null", b"1", b"{", b"", b"{'image': 1}", b"[" * 100, b'{"image": null}',
    b'{"image": 1}', b'{"image": ["a"]}', b'{"images": "a"}', b'{"images": []}', b'{"images": [1]}',
    b'{"image": "a"}', b'{"image": "%%%%"}', b'{"image": "data:image/png,abc"}', '{"image": "é"}'.encode(),
    b'{"image": "data:image/jpeg"}', b'{"image": "", "images": []}', b'{"image": "\\ud800"}',
    b'{"image": "\xff"}', b'{"url": 1}', b'{"url": null}', b'{"image": ""}', b'{"image": "YQ==YQ=="}',
    json.dumps({"images": [STANDARD] * 101}).encode(),
]  # fmt: skip


@pytest.mark.parametrize("body", WRONG, ids=range(len(WRONG)))
def test_a_document_that_is_wrong(client, body):
    detail = is_problem(client.post("/predict", data=body, content_type="application/json"), 400)["detail"]
    assert len(detail) < 300


def test_an_image_that_is_none(client):
    is_problem(client.post("/predict", json={"image": "aGVsbG8="}), 415)
    half = base64.b64encode(RED_JPEG[:300]).decode()
    is_problem(client.post("/predict", json={"image": half}), 422)


HOSTILE = {
    "lists": b'{"image": [' + b"[]," * 600_000 + b"0]}",
    "objects": b'{"image": [' + b"{}," * 600_000 + b"0]}",
    "keys": b"{" + b",".join(b'"%d":0' % number for number in range(200_000)) + b"}",
    "depth": b'{"image": ' + b"[" * 1_900_000,
    "a number": b'{"image": ' + b"1" * 1_900_000 + b"}",
    "a fraction": b'{"image": 0.' + b"1" * 1_900_000 + b"}",
    "wide characters": b'{"x": "' + "🐈".encode() * 400_000 + b'", "image": 1}',
    "escapes": b'{"x": "' + b"\\ud83d\\udc08" * 150_000 + b'", "image": 1}',
    "one wide character": b'{"image": "' + b"A" * 1_900_000 + b'\\ud83d\\udc08"}',
    "percent signs": b'{"image": "data:;base64,' + b"%" * 1_900_000 + b'"}',
    "percent codes": b'{"image": "data:;base64,' + b"%41" * 600_000 + b'"}',
}


@pytest.mark.parametrize("body", HOSTILE.values(), ids=HOSTILE)
def test_memory_is_bounded_by_the_length(body):
    """`json.loads` alone takes 37 times the length of the first two."""
    tracemalloc.start()
    try:
        with pytest.raises((BadRequest, RequestEntityTooLarge), match=r"JSON|base64"):
            documents.images(documents.parse(body))
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak < 12 * len(body)
