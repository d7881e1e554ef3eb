"""The Open Inference Protocol: by the protocol's own document, and by a client of another project."""

import base64
import gzip
import json
import re
import struct
import tracemalloc

import jsonschema
import numpy as np
import pytest
import yaml
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from app.http import gate
from ml.model.image import decode
from tests.app.routes.test_predict import BLUE_PNG, RED_JPEG, send
from tests.conftest import SIZE
from tests.helpers.beside import beside
from tests.helpers.graphs import KNOWN, telling_graph
from tests.helpers.served import Served, served
from tests.helpers.service import running

MODEL = "/v2/models/cats-vs-dogs"
INFER = f"{MODEL}/infer"
PHOTOS = [RED_JPEG, BLUE_PNG]


def text(photo: bytes) -> str:
    return base64.b64encode(photo).decode()


def images(*data: object, **more: object) -> dict:
    return {"name": "image", "datatype": "BYTES", "shape": [len(data)], "data": list(data)} | more


def pixels(*photos: bytes, **more: object) -> dict:
    data = np.stack([decode(photo, SIZE) for photo in photos])
    return {"name": "pixels", "datatype": "UINT8", "shape": list(data.shape), "data": data.tolist()} | more


def infer(client: FlaskClient, *inputs: dict, path: str = INFER, **more: object) -> TestResponse:
    return client.post(path, json={"inputs": list(inputs)} | more)


def values(response: TestResponse) -> dict[str, list]:
    assert response.status_code == 200, response.text
    return {output["name"]: output["data"] for output in response.get_json()["outputs"]}


def error(response: TestResponse, status: int) -> str:
    assert response.status_code == status, response.text
    assert response.content_type == "application/json"
    assert response.headers["X-Request-ID"]
    body = response.get_json()
    assert set(body) == {"error"}
    return body["error"]


def with_binary(document: dict, binary: bytes) -> tuple[bytes, dict[str, str]]:
    head = json.dumps(document).encode()
    return head + binary, {"Inference-Header-Content-Length": str(len(head))}


def elements(*photos: bytes) -> bytes:
    return b"".join(struct.pack("<I", len(photo)) + photo for photo in photos)


@pytest.fixture
def telling(make_app, make_model) -> FlaskClient:
    """A model with an OOD score."""
    return make_app(
        model_url=make_model("telling.pt", graph=telling_graph(), known=KNOWN).as_uri()
    ).test_client()


def test_the_answers_are_those_of_predict(telling):
    expected = send(telling, *PHOTOS).get_json()["predictions"]
    for tensor in (images(*map(text, PHOTOS)), pixels(*PHOTOS)):
        response = infer(telling, tensor, id="own")
        answer, outputs = response.get_json(), values(response)
        assert (answer["id"], answer["model_name"], answer["model_version"]) == (
            "own",
            "cats-vs-dogs",
            "test-1",
        )
        assert outputs["label"] == [one["label"] for one in expected] == ["red", "blue"]
        assert outputs["probabilities"] == [p for one in expected for p in one["probabilities"].values()]
        assert outputs["known"] == [one["known"] for one in expected]
        shapes = {output["name"]: output["shape"] for output in answer["outputs"]}
        assert shapes == {"probabilities": [2, 2], "label": [2], "known": [2], "request_id": [2]}


def test_without_id_and_score_the_answer_has_none(client):
    answer = infer(client, images(text(RED_JPEG))).get_json()
    assert "id" not in answer
    assert {output["name"] for output in answer["outputs"]} == {"probabilities", "label", "request_id"}
    assert [output["name"] for output in client.get(MODEL).get_json()["outputs"]] == [
        "probabilities",
        "label",
        "request_id",
    ]


def test_feedback_on_an_answer(client):
    outputs = values(infer(client, pixels(*PHOTOS)))
    for label, signed in zip(outputs["label"], outputs["request_id"], strict=True):
        told = {"predicted": label, "actual": "red", "request_id": signed}
        assert client.post("/feedback", json=told).status_code == 204
    assert 'feedback_total{actual="red",predicted="blue"} 1.0' in client.get("/metrics").text


def test_only_the_outputs_that_are_asked_for(client):
    response = infer(client, images(text(RED_JPEG)), outputs=[{"name": "label"}])
    assert values(response) == {"label": ["red"]}
    assert "'top'" in error(infer(client, images(text(RED_JPEG)), outputs=[{"name": "top"}]), 400)


@pytest.mark.parametrize("compressed", [False, True])
def test_binary_tensors(client, compressed):
    raw = np.stack([decode(photo, SIZE) for photo in PHOTOS]).tobytes()
    for tensor, binary in ((images(*PHOTOS), elements(*PHOTOS)), (pixels(*PHOTOS), raw)):
        del tensor["data"]
        tensor["parameters"] = {"binary_data_size": len(binary)}
        body, headers = with_binary({"inputs": [tensor], "parameters": {"binary_data_output": True}}, binary)
        if compressed:
            body, headers["Content-Encoding"] = gzip.compress(body), "gzip"
        response = client.post(INFER, data=body, headers=headers)
        assert response.status_code == 200, response.text
        size = int(response.headers["Inference-Header-Content-Length"])
        document, rest = json.loads(response.data[:size]), response.data[size:]
        assert response.content_type == "application/octet-stream"
        found = {}
        for output in document["outputs"]:
            length = output["parameters"]["binary_data_size"]
            found[output["name"]], rest = rest[:length], rest[length:]
        assert rest == b""
        assert found["label"] == elements(b"red", b"blue")
        expected = values(infer(client, pixels(*PHOTOS)))["probabilities"]
        assert np.frombuffer(found["probabilities"], "<f4").tolist() == pytest.approx(expected)


def test_null_counts_as_missing(client):
    request = images(text(RED_JPEG), parameters=None)
    answer = infer(client, request, id=None, parameters=None, outputs=None)
    assert values(answer)["label"] == ["red"]
    assert "id" not in answer.get_json()


def test_shapes_and_nesting(client):
    flat = np.ravel(pixels(RED_JPEG)["data"]).tolist()
    assert values(infer(client, pixels(RED_JPEG, data=flat)))["label"] == ["red"]
    column = images([text(RED_JPEG)], [text(BLUE_PNG)], shape=[2, 1])
    assert values(infer(client, column))["label"] == ["red", "blue"]


@pytest.mark.parametrize(
    ("document", "reason"),
    [
        (b"", "JSON"), (b"{", "JSON"), (b"[]", "object"), (b"{}", "inputs"), (b"[" * 900, "JSON"),
        ({"inputs": []}, "one tensor"),
        ({"inputs": [images("x"), images("x")]}, "one tensor"),
        ({"inputs": ["image"]}, "one tensor"),
        ({"inputs": [images("aGk=")], "id": 3}, "'id'"),
        ({"inputs": [images("aGk=", name="input-0")]}, "name and datatype"),
        ({"inputs": [images("aGk=", datatype="UINT8")]}, "name and datatype"),
        ({"inputs": [images("aGk=", name=["image"])]}, "name and datatype"),
        ({"inputs": [images("aGk=", shape=[2])]}, "1 photos, but its shape requires 2"),
        ({"inputs": [images("aGk=", shape=[1, 2])]}, "shape"),
        ({"inputs": [images("aGk=", shape=[])]}, "shape"),
        ({"inputs": [images("aGk=", shape=[True])]}, "shape"),
        ({"inputs": [images("aGk=", shape=[-1])]}, "shape"),
        ({"inputs": [images(shape=[1])]}, "0 photos"),
        ({"inputs": [images("", shape=[1])]}, "empty"),
        ({"inputs": [images("no-base64!")]}, "base64"),
        ({"inputs": [images(7)]}, "base64"),
        ({"inputs": [images("aGk=", data="aGk=")]}, "a list"),
        ({"inputs": [images("aGk=", parameters=[])]}, "parameters"),
        ({"inputs": [images("aGk=", parameters={"binary_data_size": 4})]}, "both"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1]}]}, "'data'"),
        ({"inputs": [{"name": "image", "datatype": "BYTES", "shape": [1], "parameters":
          {"binary_data_size": 4}}]}, "bytes after the JSON"),
        ({"inputs": [images("aGk=")], "outputs": {}}, "'outputs'"),
        ({"inputs": [images("aGk=")], "outputs": [{}]}, "'name'"),
        ({"inputs": [pixels(RED_JPEG, data=[[1, 2], [3]])]}, "3 numbers"),
        ({"inputs": [pixels(RED_JPEG, data=[256])]}, "0 to 255"),
        ({"inputs": [pixels(RED_JPEG, data=[-1])]}, "0 to 255"),
        ({"inputs": [pixels(RED_JPEG, data=[1.5])]}, "0 to 255"),
        ({"inputs": [pixels(RED_JPEG, data=["1"])]}, "0 to 255"),
        ({"inputs": [pixels(RED_JPEG, data=[[1], "234"])]}, "0 to 255"),
        ({"inputs": [pixels(RED_JPEG, data=3072)]}, "a list"),
        ({"inputs": [pixels(RED_JPEG, shape=[1, 3, SIZE, SIZE])]}, "shape"),
    ],
)  # fmt: skip
def test_what_is_not_valid(client, document, reason):
    body = document if isinstance(document, bytes) else json.dumps(document).encode()
    assert reason in error(client.post(INFER, data=body), 400)


def test_bad_binary_tensors(client):
    tensor = {"name": "image", "datatype": "BYTES", "shape": [1]}

    def post(binary: bytes, size: object = None, header: str | None = None) -> TestResponse:
        tensor["parameters"] = {"binary_data_size": len(binary) if size is None else size}
        body, headers = with_binary({"inputs": [tensor]}, binary)
        headers |= {"Inference-Header-Content-Length": header} if header else {}
        return client.post(INFER, data=body, headers=headers)

    assert post(elements(RED_JPEG)).status_code == 200
    assert "4 bytes" in error(post(RED_JPEG), 400)  # its first bytes are no size
    assert "4 bytes" in error(post(elements(RED_JPEG) + b"x"), 400)
    assert "4 bytes" in error(post(b"\x01"), 400)
    assert "empty" in error(post(elements(b"")), 400)
    assert "after the JSON" in error(post(elements(RED_JPEG), size=3), 400)
    assert "after the JSON" in error(post(elements(RED_JPEG), size="all"), 400)
    for header in ("-1", "x", "99999999", "1e3", "9" * 40):
        assert "Inference-Header" in error(post(elements(RED_JPEG), header=header), 400)


def test_what_cannot_be_classified(client):
    assert "not" in error(infer(client, images(text(b"this is no image"))), 415)
    assert "file 2 of 2" in error(infer(client, images(text(RED_JPEG), text(RED_JPEG[:300]))), 422)
    for path in ("/v2/models/other/infer", f"{MODEL}/versions/2/infer"):
        assert "cats-vs-dogs" in error(infer(client, images(text(RED_JPEG)), path=path), 404)
    for path in ("/v2/models/other", "/v2/models/other/ready", f"{MODEL}/versions/2", "/v2/nothing"):
        error(client.get(path), 404)
    assert error(client.post("/v2"), 405) == "this path supports only GET, HEAD, OPTIONS"
    error(client.get(INFER), 405)
    assert client.get("/nothing").content_type == "application/problem+json"


@pytest.mark.parametrize("element", ["1.5,", "[],", "[0],", '"ab",', "{},", '{"a":1},'])
def test_the_memory_for_json_is_bounded(make_app, element):
    """10 MB of small values would take several hundred MB."""
    client = make_app().test_client()
    head = '{"inputs": [{"name": "pixels", "datatype": "UINT8", "shape": [1, 32, 32, 3], "data": ['
    for size, statuses in ((10_000_000, {413}), (900_000, {400, 413})):
        body = (head + element * (size // len(element)) + "1]}]}").encode()
        tracemalloc.start()
        try:
            assert client.post(INFER, data=body).status_code in statuses
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        assert peak < 60_000_000


def test_as_many_photos_as_predict_takes(client):
    assert len(values(infer(client, images(*[text(RED_JPEG)] * 100)))["label"]) == 100
    assert "100" in error(infer(client, images(*[text(RED_JPEG)] * 101)), 413)


def test_pixels_do_not_disturb_the_sizes_of_photos(client):
    infer(client, pixels(*PHOTOS))
    infer(client, images(text(RED_JPEG)))
    metrics = client.get("/metrics").text
    assert "photo_short_side_pixels_count 1.0" in metrics
    assert "photo_aspect_ratio_count 1.0" in metrics
    assert "photo_brightness_count 3.0" in metrics
    assert 'predictions_total{label="red"} 2.0' in metrics
    assert f'http_requests_total{{method="POST",route="{gate.INFER}",status="200"}} 2.0' in metrics


def test_before_the_model_is_loaded(make_app):
    app = make_app()
    app.extensions["service"].model.engine = None
    client = app.test_client()
    assert client.get("/v2/health/live").status_code == client.get("/v2").status_code == 200
    for path in ("/v2/health/ready", MODEL, f"{MODEL}/ready"):
        assert error(client.get(path), 503)
    assert error(infer(client, images(text(RED_JPEG))), 503)
    assert 'predictions_rejected_total{reason="not_ready"} 1.0' in client.get("/metrics").text


def asked(service: Served, path: str, body: bytes, **headers: str) -> tuple[int, str]:
    response = service.ask("POST", path, body, **headers)
    document = json.loads(response.content)  # type: ignore[attr-defined]
    return response.status, document.get("error", "")


def test_the_gate_treats_it_as_a_prediction(make_app, monkeypatch):
    """The real server: the key is checked before the body is received, and the limits are those of photos."""
    monkeypatch.setattr(gate, "_FAILED_BURST", 3)
    monkeypatch.setattr(gate, "_FAILED_PER_S", 0.001)
    body = json.dumps({"inputs": [pixels(RED_JPEG)]}).encode()
    assert len(body) > gate.SMALL_BODY_BYTES
    with served(make_app, api_keys=("the-key",), max_upload_mb=1) as service:
        for path in (INFER, f"{MODEL}/versions/test-1/infer"):
            assert asked(service, path, body, X_API_Key="the-key") == (200, "")
            assert asked(service, path, bytes(1 << 21), X_API_Key="the-key")[0] == 413
            assert asked(service, path, body)[0] == 401
        assert asked(service, "/v2/models/other/infer", body)[0] == 401
        status, reason = asked(service, INFER, body)
        assert status == 429
        assert reason
        for route in (gate.INFER, gate.INFER_VERSION):
            counts = {s: service.sample("http_requests_total", method="POST", route=route, status=s)
                      for s in ("200", "401", "413")}  # fmt: skip
            assert counts["200"] == counts["413"] == 1
        assert service.ask("POST", "/v2/health/live", bytes(5000)).status == 413  # small bodies only


def test_what_waits_too_long_or_comes_in_a_drain_is_rejected(make_app):
    with served(make_app, max_concurrency=1, max_queue=0) as service:
        admission = service.service.admission
        admission._working = 1
        assert asked(service, INFER, b"{}")[0] == 503
        assert service.sample("predictions_rejected_total", reason="queue_full") == 1
        assert service.ask("GET", "/v2/health/ready").status == 200
        admission._working = 0
        admission.draining = True
        assert asked(service, INFER, b"{}") == (503, "the service is stopping; try again")
        assert service.ask("GET", "/v2/health/live").status == 200
        assert service.ask("GET", "/v2/health/ready").status == 503


def test_no_url_is_fetched(make_app):
    with served(make_app, allowed_image_hosts=(("http", "127.0.0.1", 9),)) as service:
        body = json.dumps({"url": "http://127.0.0.1:9/x", "inputs": [images(text(RED_JPEG))]}).encode()
        assert len(body) < gate.SMALL_BODY_BYTES
        assert asked(service, INFER, body) == (200, "")


@pytest.fixture(scope="module")
def schemas() -> dict:
    return yaml.safe_load(beside("crds/open_inference_rest.yaml").read_text())


def valid(schemas: dict, name: str, document: object) -> None:
    whole = {"$ref": f"#/components/schemas/{name}", "components": schemas["components"]}
    jsonschema.Draft202012Validator(whole).validate(document)


def test_every_path_of_the_protocol_s_document(schemas, telling):
    request = {"id": "42", "inputs": [images(*map(text, PHOTOS))], "outputs": [{"name": "label"}]}
    valid(schemas, "inference_request", request)
    valid(schemas, "inference_request", {"inputs": [pixels(RED_JPEG)]})
    for template, methods in schemas["paths"].items():
        path = template.replace("${MODEL_NAME}", "cats-vs-dogs").replace("${MODEL_VERSION}", "test-1")
        ((method, operation),) = ((m, o) for m, o in methods.items() if m in ("get", "post"))
        for place in {path, re.sub("/versions/test-1", "", path), path.rstrip("/")}:
            response = telling.open(place, method=method, json=request if method == "post" else None)
            assert response.status_code == 200, (place, response.text)
            if content := operation["responses"]["200"].get("content"):
                name = content["application/json"]["schema"]["$ref"].rpartition("/")[2]
                assert response.content_type == "application/json"
                valid(schemas, name, response.get_json())
    with pytest.raises(jsonschema.ValidationError):
        valid(schemas, "inference_response", {"outputs": []})


def test_errors_and_tensors_match_the_protocol_s_document(schemas, telling):
    error_schema = "inference_error_response"
    for response in (
        infer(telling), infer(telling, images("x")), infer(telling, path="/v2/models/x/infer"),
        telling.get("/v2/models/x"), telling.post(INFER, data=bytes(11 << 20)),
    ):  # fmt: skip
        assert response.status_code >= 400
        valid(schemas, error_schema, response.get_json())
        valid(schemas, "metadata_model_error_response", response.get_json())
    metadata = {output["name"]: output for output in telling.get(MODEL).get_json()["outputs"]}
    answer = infer(telling, pixels(*PHOTOS)).get_json()
    assert {output["name"] for output in answer["outputs"]} == set(metadata)
    for output in answer["outputs"]:
        described = metadata[output["name"]]
        assert output["datatype"] == described["datatype"]
        assert output["shape"] == [len(PHOTOS), *described["shape"][1:]]
        assert len(output["data"]) == np.prod(output["shape"])


def test_triton_s_own_client(make_model):
    reason = "tritonclient is not installed; pip install tritonclient[http]"
    triton = pytest.importorskip("tritonclient.http", reason=reason)
    file = make_model(graph=telling_graph(), known=KNOWN)
    with running(LOG_LEVEL="error", MODEL_URL=file.as_uri(), API_KEYS="open-sesame") as service:
        service.wait()
        headers, name = {"Authorization": "Bearer open-sesame"}, "cats-vs-dogs"
        with triton.InferenceServerClient(f"127.0.0.1:{service.port}") as client:
            assert client.is_server_live()
            assert client.is_server_ready()
            assert client.is_model_ready(name)
            assert client.is_model_ready(name, "test-1")
            assert not client.is_model_ready(name, "2")
            assert "binary_tensor_data" in client.get_server_metadata()["extensions"]
            metadata = client.get_model_metadata(name)
            shapes = {tensor["name"]: tensor["shape"] for tensor in metadata["inputs"]}
            classes = json.loads(metadata["properties"]["classes"])
            assert shapes == {"image": [-1], "pixels": [-1, SIZE, SIZE, 3]}
            encoded = np.array(PHOTOS, object)
            as_text = np.array([text(photo) for photo in PHOTOS], object)
            raw = np.stack([decode(photo, SIZE) for photo in PHOTOS])
            for array, tensor, binary in (
                (encoded, ("image", [2], "BYTES"), True),
                (as_text, ("image", [2], "BYTES"), False),
                (raw, ("pixels", list(raw.shape), "UINT8"), True),
                (raw, ("pixels", list(raw.shape), "UINT8"), False),
            ):
                image = triton.InferInput(*tensor)
                image.set_data_from_numpy(array, binary_data=binary)
                for outputs in (
                    None,
                    [triton.InferRequestedOutput(n, binary_data=not binary)
                     for n in ("label", "probabilities", "known")],
                ):  # fmt: skip
                    for algorithm in (None, "gzip", "deflate"):
                        result = client.infer(
                            name, [image], outputs=outputs, headers=dict(headers), request_id="mine",
                            request_compression_algorithm=algorithm,
                        )  # fmt: skip
                        labels = [
                            str(x if isinstance(x, str) else x.decode()) for x in result.as_numpy("label")
                        ]
                        assert labels == ["red", "blue"]
                        probabilities = result.as_numpy("probabilities")
                        assert probabilities.dtype == np.float32
                        assert [classes[i] for i in probabilities.argmax(1)] == labels
                        assert result.as_numpy("known").shape == (2,)
                        assert result.get_response()["id"] == "mine"
            wrong = triton.InferInput("pixels", [1, 8, 8, 3], "UINT8")
            wrong.set_data_from_numpy(np.zeros((1, 8, 8, 3), np.uint8))
            with pytest.raises(triton.InferenceServerException, match="shape") as caught:
                client.infer(name, [wrong], headers=dict(headers))
            assert caught.value.status() == "400"
            with pytest.raises(triton.InferenceServerException, match="API key") as caught:
                client.infer(name, [image])
            assert caught.value.status() == "401"
