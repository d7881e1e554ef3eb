"""Photos that show none of the classes: the OOD score, and the label `unknown` wherever it appears."""

import json
import logging
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from flask import Flask
from flask.testing import FlaskClient

from app.inference import loading
from app.telemetry import logs
from ml.model.errors import BundleError
from tests.app.inference.test_loading import baseline
from tests.app.routes.test_predict import is_problem, send, signed
from tests.conftest import BLUE, RED, SIZE, coloured, encode
from tests.helpers.graphs import GREEN, KNOWN, telling_graph

RED_PNG, BLUE_PNG, GREEN_PNG = (encode(coloured(colour), "PNG") for colour in (RED, BLUE, GREEN))
DULL_PNG = encode(coloured((140, 100, 100)), "PNG")  # red, but not by much

MakeClient = Callable[..., FlaskClient]


@pytest.fixture
def telling(make_model: Callable[..., Path], make_app: Callable[..., Flask]) -> MakeClient:
    """An app whose model knows red and blue, and detects other colours."""

    def make(
        known: str = "score", classes: tuple[str, str] = ("red", "blue"), **settings: object
    ) -> FlaskClient:
        model = make_model("telling.pt", graph=telling_graph(known=known), known=KNOWN, classes=list(classes))
        return make_app(model_url=model.as_uri(), **settings).test_client()

    return make


def test_a_photo_of_no_class_is_unknown(telling: MakeClient) -> None:
    client = telling()
    red = send(client, RED_PNG).get_json()
    assert (red["label"], red["known"]) == ("red", 1)
    assert list(red) == ["label", "probabilities", "known", "model", "request_id"]
    dull = send(client, DULL_PNG).get_json()
    assert dull["label"] == "unknown"
    assert dull["known"] == pytest.approx(0.4, abs=1e-4)
    # The probabilities stay as they are, of the classes alone.
    assert list(dull["probabilities"]) == ["red", "blue"]
    assert dull["probabilities"]["red"] == pytest.approx(1 / (1 + np.exp(-2)), abs=0.01)
    assert sum(dull["probabilities"].values()) == pytest.approx(1, abs=1e-9)


def test_each_of_several_photos_has_its_own_score(telling: MakeClient) -> None:
    photos = [RED_PNG, GREEN_PNG, BLUE_PNG] * 4  # more than one run of the network
    predictions = send(telling(), *photos).get_json()["predictions"]
    assert [p["label"] for p in predictions] == ["red", "unknown", "blue"] * 4
    assert [p["known"] for p in predictions] == pytest.approx([1, 0, 1] * 4, abs=0.02)
    assert {tuple(p) for p in predictions} == {("label", "probabilities", "known", "request_id")}


def test_a_score_at_the_threshold_is_known(
    make_model: Callable[..., Path], make_app: Callable[..., Flask]
) -> None:
    score = send_to(make_model, make_app, 0.5)["known"]
    assert send_to(make_model, make_app, score)["label"] == "red"
    assert send_to(make_model, make_app, score + 1e-6)["label"] == "unknown"


def send_to(make_model: Callable[..., Path], make_app: Callable[..., Flask], threshold: float) -> dict:
    known = {"method": "distance", "threshold": threshold}
    model = make_model("edge.pt", graph=telling_graph(), known=known)
    answer: dict = send(make_app(model_url=model.as_uri()).test_client(), DULL_PNG).get_json()
    return answer


def test_unknown_can_be_switched_off(telling: MakeClient) -> None:
    client = telling(unknown=False)
    answer = send(client, GREEN_PNG).get_json()
    assert answer["label"] in ("red", "blue")
    assert answer["known"] < 0.1  # the score is told all the same
    is_problem(client.post("/feedback", json={"predicted": "red", "actual": "unknown"}), 400)
    assert 'label="unknown"' not in client.get("/metrics").text
    assert client.get("/model").get_json()["labels"] == ["red", "blue"]


def test_a_model_without_ood_score_never_answers_unknown(
    make_model: Callable[..., Path], make_app: Callable[..., Flask], tmp_path: Path
) -> None:
    older = make_model("older.pt")
    no_threshold = make_model("no-threshold.pt", graph=telling_graph())
    no_score = make_model("no-score.pt", graph=telling_graph(known=""), known=KNOWN)
    plain = baseline("simple_cnn", tmp_path / "plain.pt")
    for model, classes in ((older, None), (no_threshold, None), (no_score, None), (plain, ["cat", "dog"])):
        client = make_app(model_url=model.as_uri()).test_client()
        answer = send(client, GREEN_PNG).get_json()
        assert list(answer) == ["label", "probabilities", "model", "request_id"], model
        assert answer["label"] == max(answer["probabilities"], key=answer["probabilities"].__getitem__)
        several = send(client, GREEN_PNG, RED_PNG).get_json()["predictions"]
        assert {tuple(p) for p in several} == {("label", "probabilities", "request_id")}
        assert 'label="unknown"' not in client.get("/metrics").text
        assert client.get("/model").get_json()["labels"] == (classes or ["red", "blue"])
        told = is_problem(client.post("/feedback", json={"predicted": "unknown", "actual": "unknown"}), 400)
        assert "unknown" not in told["detail"]


@pytest.mark.parametrize(
    ("known", "photo", "expected"),
    [("beyond", RED_PNG, 1), ("beyond", BLUE_PNG, 0), ("root", BLUE_PNG, 0), ("root", RED_PNG, 1)],
)
def test_an_invalid_score_is_replaced(telling: MakeClient, known: str, photo: bytes, expected: float) -> None:
    client = telling(known=known)
    answer = send(client, photo)
    assert b"NaN" not in answer.data
    assert answer.get_json()["known"] == expected
    assert answer.get_json()["label"] == ("red" if expected else "unknown")


def test_a_model_with_invalid_scores_is_rejected_at_load(make_model: Callable[..., Path]) -> None:
    path = make_model(graph=telling_graph(known="log"), known=KNOWN)
    with pytest.raises(BundleError, match="not from 0 to 1") as caught:
        loading.load(path, "onnx", 1)
    assert "\n" not in str(caught.value)


def test_a_class_named_unknown_keeps_its_name(telling: MakeClient) -> None:
    client = telling(classes=("red", "unknown"))
    assert send(client, BLUE_PNG).get_json()["label"] == "unknown"
    stranger = send(client, DULL_PNG).get_json()
    assert stranger["label"] == "red"  # not "unknown", which would be taken for the class
    assert stranger["known"] < 0.5
    assert client.get("/model").get_json()["labels"] == ["red", "unknown"]
    document = client.get("/openapi.json").get_json()
    assert document["components"]["schemas"]["Label"]["enum"] == ["red", "unknown"]
    told = {"predicted": "red", "actual": "unknown", "request_id": signed(client, RED_PNG)}
    assert client.post("/feedback", json=told).status_code == 204


def test_unknown_is_counted_from_the_start(telling: MakeClient) -> None:
    client = telling()
    assert '\npredictions_total{label="unknown"} 0.0\n' in client.get("/metrics").text
    send(client, GREEN_PNG, RED_PNG, GREEN_PNG)
    text = client.get("/metrics").text
    assert '\npredictions_total{label="unknown"} 2.0\n' in text
    assert '\npredictions_total{label="red"} 1.0\n' in text


def test_the_log_line_contains_it(telling: MakeClient, caplog: pytest.LogCaptureFixture) -> None:
    client = telling()
    caplog.set_level(logging.INFO, "app.request")
    send(client, DULL_PNG)
    send(client, GREEN_PNG, RED_PNG)
    one, several = (json.loads(logs.JsonFormatter().format(record)) for record in caplog.records)
    assert list(one)[-3:] == ["label", "confidence", "known"]
    assert one["label"] == "unknown"
    assert one["confidence"] == pytest.approx(0.88, abs=0.01)  # of the likeliest class
    assert one["known"] == pytest.approx(0.4, abs=0.01)
    assert several["label"] == ["unknown", "red"]
    assert several["known"] == pytest.approx([0, 1], abs=0.01)


def test_feedback_accepts_unknown(telling: MakeClient) -> None:
    client = telling()
    photos = {"unknown": GREEN_PNG, "red": RED_PNG}
    for predicted, actual in (("unknown", "red"), ("red", "unknown"), ("unknown", "unknown")):
        told = {"predicted": predicted, "actual": actual, "request_id": signed(client, photos[predicted])}
        assert client.post("/feedback", json=told).status_code == 204
        sample = f'feedback_total{{actual="{actual}",predicted="{predicted}"}} 1.0'
        assert f"\n{sample}\n" in client.get("/metrics").text
    assert '\nfeedback_judged_total{correct="true"} 1.0\n' in client.get("/metrics").text
    told = is_problem(client.post("/feedback", json={"predicted": "red", "actual": "horse"}), 400)
    assert "red, blue, unknown" in told["detail"]


def test_model_describes_the_ood_score(telling: MakeClient) -> None:
    body = telling().get("/model").get_json()
    assert body["known"] == KNOWN
    assert body["labels"] == ["red", "blue", "unknown"]
    assert body["classes"] == ["red", "blue"]


def test_a_batch_scores_like_single_photos(make_model: Callable[..., Path]) -> None:
    loaded = loading.load(make_model(graph=telling_graph(), known=KNOWN), "auto", 1)
    images = np.random.default_rng(0).integers(0, 256, (5, SIZE, SIZE, 3), np.uint8)
    together = loaded.answer(images)
    for number in range(5):
        alone = loaded.answer(images[number : number + 1])
        for name in ("probabilities", "known", "evidence"):
            np.testing.assert_allclose(
                getattr(alone, name)[0], getattr(together, name)[number], rtol=1e-5, atol=1e-5
            )
