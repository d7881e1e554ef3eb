"""POST /predict and /feedback, with every documented error."""

import io
import re
from collections.abc import Callable

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from tests.conftest import BLUE, RED, coloured, encode

RED_JPEG, BLUE_PNG = encode(coloured(RED)), encode(coloured(BLUE), "PNG")


def send(client: FlaskClient, *images: bytes, **options) -> TestResponse:
    files = [(io.BytesIO(image), f"{n}.txt") for n, image in enumerate(images)]  # the name decides nothing
    return client.post("/predict", data={"file": files}, content_type="multipart/form-data", **options)


def is_problem(response: TestResponse, status: int) -> dict:
    assert response.status_code == status
    assert response.content_type == "application/problem+json"
    body = response.get_json()
    assert set(body) == {"title", "status", "detail", "request_id"}
    assert body["status"] == status
    assert body["title"]
    assert body["detail"]
    assert body["request_id"] == response.headers["X-Request-ID"]
    return body


def test_one_file_and_the_raw_body_get_the_same_answer(client):
    multipart = send(client, RED_JPEG).get_json()
    raw = client.post("/predict", data=RED_JPEG, content_type="image/jpeg").get_json()
    assert multipart["label"] == raw["label"] == "red"
    assert multipart["probabilities"] == raw["probabilities"]
    assert list(multipart["probabilities"]) == ["red", "blue"]
    assert sum(multipart["probabilities"].values()) == pytest.approx(1, abs=1e-9)
    assert multipart["model"] == {"version": "test-1", "arch": "simple_cnn"}


@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "GIF", "BMP", "AVIF"])
def test_content_decides_the_format(client, form):
    photo = encode(coloured(BLUE), form)
    assert client.post("/predict", data=photo, content_type="image/tiff").get_json()["label"] == "blue"


def test_several_files_are_answered_in_their_order(client):
    images = [RED_JPEG, BLUE_PNG, RED_JPEG] * 4  # more than one run of the network
    body = send(client, *images).get_json()
    assert [p["label"] for p in body["predictions"]] == ["red", "blue", "red"] * 4
    assert body["predictions"][1]["probabilities"] == send(client, BLUE_PNG).get_json()["probabilities"]
    assert body["model"]["version"] == "test-1"
    assert body["request_id"]


def test_a_mirrored_photo_keeps_its_answer(client):
    mirrored = encode(np.ascontiguousarray(coloured(RED)[:, ::-1]), "PNG")
    straight = encode(coloured(RED), "PNG")
    assert send(client, mirrored).get_json()["label"] == send(client, straight).get_json()["label"]


def test_small_files_of_many_pixels_occupy_a_worker_no_longer_than_the_timeout(make_app):
    app = make_app(request_timeout_s=1)
    client = app.test_client()
    huge = encode(np.zeros((4900, 5000, 3), np.uint8), "PNG")
    assert len(huge) < 100_000
    assert client.post("/predict", data=huge, content_type="image/png").status_code == 200
    head = b'--limit\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n'
    form = (head + huge + b"\r\n") * 50 + b"--limit--\r\n"
    is_problem(client.post("/predict", data=form, content_type="multipart/form-data; boundary=limit"), 413)
    decoded = re.search(r"preprocess_duration_seconds_count ([\d.]+)", client.get("/metrics").text)
    assert 2 <= float(decoded[1]) < 50  # the first request's, and one of the second or more


def test_no_file_and_an_empty_file(client):
    is_problem(send(client), 400)
    is_problem(send(client, b""), 400)
    is_problem(send(client, RED_JPEG, b""), 400)
    is_problem(client.post("/predict"), 400)
    is_problem(client.post("/predict", data=b"", content_type="image/jpeg"), 400)
    is_problem(client.post("/predict", data={"file": "text"}, content_type="multipart/form-data"), 400)
    is_problem(client.post("/predict", data=b"no boundary", content_type="multipart/form-data"), 400)
    form = "multipart/form-data; boundary=B"
    cut = b'--B\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n' + RED_JPEG
    is_problem(client.post("/predict", data=cut, content_type=form), 400)
    whole = cut + b"\r\n--B--\r\n"
    assert client.post("/predict", data=whole, content_type=form).status_code == 200


def test_a_form_of_very_many_fields(client):
    form = b"".join(b'--B\r\nContent-Disposition: form-data; name="x"\r\n\r\n1\r\n' for _ in range(202))
    kind = "multipart/form-data; boundary=B"
    is_problem(client.post("/predict", data=form + b"--B--", content_type=kind), 413)


def test_text_and_an_unknown_format(client):
    is_problem(send(client, b"this is no image"), 415)
    is_problem(client.post("/predict", data=b"this is no image"), 415)
    is_problem(send(client, encode(coloured(RED), "TIFF")), 415)


def test_a_truncated_and_a_corrupt_image(client):
    is_problem(send(client, RED_JPEG[: len(RED_JPEG) // 2]), 422)
    is_problem(send(client, BLUE_PNG[:40] + b"\0" * 200), 422)


def test_one_bad_image_among_good_ones_is_named(client):
    assert "file 2 of 2" in is_problem(send(client, RED_JPEG, RED_JPEG[:300]), 422)["detail"]
    assert "file 1 of 2" in is_problem(send(client, b"text", RED_JPEG), 415)["detail"]


def test_too_many_pixels_are_rejected_before_decoding(make_app: Callable[..., Flask]):
    client = make_app(max_pixels=1000).test_client()
    assert "1,000" in is_problem(send(client, RED_JPEG), 422)["detail"]


def test_a_body_over_the_limit_and_too_many_parts(make_app: Callable[..., Flask]):
    client = make_app(max_upload_mb=1).test_client()
    part = b'--x\r\nContent-Disposition: form-data; name="file"; filename="a"\r\n\r\n%s\r\n--x--\r\n'
    for size, status in ((1 << 19, 200), (1 << 20, 413)):
        body = part % (RED_JPEG + bytes(size))
        answer = client.post("/predict", data=body, content_type="multipart/form-data; boundary=x")
        assert answer.status_code == status
    is_problem(answer, 413)
    is_problem(client.post("/predict", data=b"\xff" * (2 << 20), content_type="image/jpeg"), 413)
    is_problem(send(client, *[b"x"] * 200), 413)


def test_api_keys(make_app: Callable[..., Flask]):
    client = make_app(api_keys=("first", "zweité")).test_client()
    assert client.post("/predict").headers["WWW-Authenticate"] == "Bearer"
    is_problem(send(client, RED_JPEG), 401)
    is_problem(send(client, RED_JPEG, headers={"X-API-Key": "third"}), 401)
    is_problem(send(client, RED_JPEG, headers={"X-API-Key": "", "Authorization": "Bearer "}), 401)
    is_problem(send(client, RED_JPEG, headers={"Authorization": "Basic first"}), 401)
    is_problem(client.post("/feedback", json={"predicted": "red", "actual": "red"}), 401)
    over_the_wire = "zweité".encode().decode("latin-1")
    assert send(client, RED_JPEG, headers={"X-API-Key": over_the_wire}).status_code == 200
    assert send(client, RED_JPEG, headers={"Authorization": "Bearer first"}).status_code == 200
    assert send(client, RED_JPEG, headers={"Authorization": "bearer first"}).status_code == 200
    # Rejections are fast: with them, predictions would seem faster than they are.
    assert '\nhttp_request_duration_seconds_count{route="/predict"} 3.0' in client.get("/metrics").text
    for path in ("/health", "/ready", "/metrics", "/model"):
        assert client.get(path).status_code == 200


def test_request_ids(client):
    assert re.fullmatch(
        r"abc-1\.[A-Za-z0-9_-]{36}", signed(client, RED_JPEG, headers={"X-Request-ID": "abc-1"})
    )
    assert client.get("/health", headers={"X-Request-ID": "a.b_c"}).headers["X-Request-ID"] == "a.b_c"
    for strange in ("a b<script>", "x" * 65, "é", ""):
        answer = send(client, RED_JPEG, headers={"X-Request-ID": strange})
        assert re.fullmatch("[0-9a-f]{32}", answer.headers["X-Request-ID"])
        assert answer.get_json()["request_id"].startswith(f"{answer.headers['X-Request-ID']}.")


def signed(client: FlaskClient, *images: bytes, **options) -> str:
    """The request_id in the body of an answer."""
    request_id: str = send(client, *images, **options).get_json()["request_id"]
    return request_id


def judged(client: FlaskClient) -> dict[str, float]:
    """How many predictions got feedback, by pair of labels."""
    pattern = r'^feedback_total\{actual="(.*)",predicted="(.*)"\} (.*)$'
    found = re.findall(pattern, client.get("/metrics").text, re.MULTILINE)
    return {f"{predicted} was {actual}": float(count) for actual, predicted, count in found}


def test_feedback_is_counted_once_per_answer(client):
    told = {"predicted": "red", "actual": "blue", "request_id": signed(client, RED_JPEG)}
    for again in ({}, {}, {"actual": "red"}):
        response = client.post("/feedback", json=told | again)
        assert (response.status_code, response.data) == (204, b"")
    assert judged(client) == {"red was blue": 1}
    for _ in range(2):  # the client's request id may be the same
        told["request_id"] = signed(client, RED_JPEG, headers={"X-Request-ID": "same"})
        assert client.post("/feedback", json=told).status_code == 204
    assert judged(client) == {"red was blue": 3}


def test_each_photo_of_a_request_gets_feedback_on_its_own_label(client):
    answer = send(client, RED_JPEG, BLUE_PNG, RED_JPEG).get_json()
    ids = [prediction["request_id"] for prediction in answer["predictions"]]
    assert len(set(ids)) == 3
    for label, request_id in zip(("red", "blue", "red"), ids, strict=True):
        for predicted in ("red", "blue", "red", "blue"):  # the label that it didn't get is made up
            told = {"predicted": predicted, "actual": "blue", "request_id": request_id}
            assert client.post("/feedback", json=told).status_code == (204 if predicted == label else 400)
    assert judged(client) == {"red was blue": 2, "blue was blue": 1}
    told = {"predicted": "red", "actual": "blue", "request_id": answer["request_id"]}
    assert "'predictions'" in is_problem(client.post("/feedback", json=told), 400)["detail"]
    assert judged(client) == {"red was blue": 2, "blue was blue": 1}


@pytest.mark.parametrize("made_up", [None, "", "abc", 1, ["x"], f"id.{'A' * 32}", "\ud800.x"])
def test_made_up_feedback_is_rejected(client, made_up):
    for told in ({"request_id": made_up}, {}):
        detail = is_problem(
            client.post("/feedback", json={"predicted": "red", "actual": "blue"} | told), 400
        )["detail"]
        assert "request_id" in detail
    assert judged(client) == {}


@pytest.mark.parametrize("body", [b'{"predicted": "red"', b"\xff\xfe{", b"[" * 4000])
def test_feedback_that_is_not_json_says_so(client, body):
    problem = is_problem(client.post("/feedback", data=body, content_type="application/json"), 400)
    assert problem["detail"] == "the body isn't valid JSON"


def test_the_id_in_the_header_is_not_enough(client):
    answer = send(client, RED_JPEG)
    told = {"predicted": "red", "actual": "red", "request_id": answer.headers["X-Request-ID"]}
    is_problem(client.post("/feedback", json=told), 400)
    told["request_id"] = answer.get_json()["request_id"]
    is_problem(client.post("/feedback", json=told | {"predicted": "blue"}), 400)  # it was red
    assert client.post("/feedback", json=told).status_code == 204


def test_feedback_after_a_restart_needs_the_secret(make_app: Callable[..., Flask]):
    for secret, status in ((None, 400), ("0123456789abcdef", 204)):
        request_id = signed(make_app(feedback_secret=secret).test_client(), RED_JPEG)
        restarted = make_app(feedback_secret=secret).test_client()
        told = {"predicted": "red", "actual": "red", "request_id": request_id}
        assert restarted.post("/feedback", json=told).status_code == status


@pytest.mark.parametrize(
    "body",
    [
        b"no json", b"", b'["red"]', b"{}", b'{"predicted": "red", "actual": "horse"}', b"[" * 4000,
        b'{"predicted": "red", "actual": "red", "request_id": 1}', b'{"predicted": ["red"], "actual": {}}',
        b'{"predicted": "red"}', b"\xff\xfe", b'"\\ud800"',
    ],
)  # fmt: skip
def test_invalid_feedback(client, body):
    is_problem(client.post("/feedback", data=body, content_type="application/json"), 400)


def test_feedback_of_another_type_or_size(client):
    is_problem(client.post("/feedback", data=b"predicted=red&actual=red"), 415)
    is_problem(client.post("/feedback", data=b" " * 5000, content_type="application/json"), 413)


def test_top_keeps_the_likeliest_classes(client):
    def probabilities(photo: bytes, top: object) -> dict[str, float]:
        response = client.post(f"/predict?top={top}", data=photo)
        return response.get_json()["probabilities"]

    whole = client.post("/predict", data=BLUE_PNG).get_json()["probabilities"]
    assert list(whole) == ["red", "blue"]  # without it, in the model's order
    assert list(probabilities(BLUE_PNG, 1).items()) == [("blue", whole["blue"])]
    for top in (2, 3, 1000):
        assert list(probabilities(BLUE_PNG, top).items()) == [("blue", whole["blue"]), ("red", whole["red"])]
    for top in (0, -1, "", "x", "1.0", "1e1", 1001, "9" * 5000, "٣", "%2B1", "+1"):
        assert "'top'" in is_problem(client.post(f"/predict?top={top}", data=RED_JPEG), 400)["detail"]


def test_top_applies_to_each_of_several_photos(client):
    files = [(io.BytesIO(photo), "x") for photo in (RED_JPEG, BLUE_PNG)]
    answer = client.post("/predict?top=1", data={"file": files}).get_json()
    assert [list(one["probabilities"]) for one in answer["predictions"]] == [["red"], ["blue"]]
