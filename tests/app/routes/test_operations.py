"""Health, readiness, metrics, errors of any path, and log lines."""

import json
import logging

import pytest

from app import create_app
from app.model_source import source
from app.model_source.source import ModelFile, ModelSourceError
from app.service import service_of
from app.settings import Settings
from app.telemetry import logs
from ml.model import VERSION
from tests.app.routes.test_predict import BLUE_PNG, RED_JPEG, is_problem, send


def test_health_and_ready_without_a_model(tmp_path):
    app = create_app(Settings(model_url=(tmp_path / "none.pt").as_uri()))
    client = app.test_client()
    assert client.get("/health").get_json() == {"status": "ok", "service": "cats-vs-dogs"}
    assert "being loaded" in is_problem(client.get("/ready"), 503)["detail"]
    assert client.get("/ready").headers["Retry-After"] == "1"
    is_problem(client.get("/model"), 503)
    is_problem(client.get("/model/card"), 503)
    is_problem(client.post("/feedback", json={}), 503)
    is_problem(send(client, RED_JPEG), 503)
    text = client.get("/metrics").text
    assert 'predictions_rejected_total{reason="not_ready"} 1.0' in text
    assert "\nmodel_info" not in text  # its absence is what an alert goes by
    with pytest.raises(ModelSourceError, match=r"none\.pt"):
        service_of(app).model.load()


def test_ready_with_a_model(client):
    assert client.get("/ready").get_json() == {"status": "ready"}


def test_model_describes_the_model(client):
    body = client.get("/model").get_json()
    assert body["classes"] == ["red", "blue"]
    assert body["engine"] == "onnx"
    assert body["service_version"] == VERSION
    assert body["version"] == "test-1"  # the model's
    assert len(body["sha256"]) == 64


CARD = "# A card\n\n| a | <b>é</b> |\n<script>alert(1)</script>\n"


def test_the_model_card_is_served_as_plain_markdown(make_model, make_app):
    client = make_app(model_url=make_model("carded.pt", card=CARD.encode()).as_uri()).test_client()
    assert client.get("/model").get_json()["card"] == "/model/card"
    answer = client.get("/model/card")
    assert answer.status_code == 200
    assert answer.content_type == "text/markdown; charset=utf-8"
    assert answer.data.decode() == CARD
    assert answer.headers["X-Content-Type-Options"] == "nosniff"  # never taken for a page
    assert answer.headers["Content-Security-Policy"].startswith("default-src 'none'")
    assert client.head("/model/card").headers["Content-Length"] == str(len(CARD.encode()))
    is_problem(client.post("/model/card"), 405)


def test_a_model_without_a_card_answers_404(client, make_model, make_app):
    broken = make_app(model_url=make_model("broken.pt", card=b"\xff").as_uri()).test_client()
    for without in (client, broken):
        assert without.get("/model").get_json()["card"] is None
        assert is_problem(without.get("/model/card"), 404)["detail"] == "this model has no card"


def test_unknown_paths_and_methods_are_problems(client):
    assert is_problem(client.get("/no/such/path"), 404)["detail"] == "there is nothing at this path"
    is_problem(client.get("/docs//page.css"), 404)
    assert "POST" in client.get("/predict").headers["Allow"]
    is_problem(client.get("/predict"), 405)
    is_problem(client.delete("/health"), 405)


def test_an_unexpected_error_shows_no_traceback(client, monkeypatch, caplog):
    def fail(images, evidence):
        raise RuntimeError("secret detail")

    monkeypatch.setattr(service_of(client.application).model.engine, "answer", fail)
    assert "secret" not in json.dumps(is_problem(send(client, RED_JPEG), 500))
    assert "secret detail" in caplog.text  # for the operator
    text = client.get("/metrics").text
    assert 'http_requests_total{method="POST",route="/predict",status="500"} 1.0' in text
    assert "predictions_in_flight 0.0" in text


@pytest.mark.parametrize("stale", [False, True])
def test_metrics_say_whether_the_model_is_an_earlier_copy(make_app, make_model, monkeypatch, stale):
    file = ModelFile(make_model(), stale=stale)
    monkeypatch.setattr(source, "fetch", lambda *_, **__: file)
    assert f"\nmodel_stale {stale:.1f}\n" in make_app().test_client().get("/metrics").text


def test_metrics_count_what_happened_and_stay_bounded(client):
    send(client, RED_JPEG, BLUE_PNG)
    for number in range(50):
        client.get(f"/scan/{number}")
        client.open("/predict", method=f"ODD{number}")
        client.options("/predict")  # as browsers ask before a request; no prediction, and so fast
        client.put("/predict")
    text = client.get("/metrics").text
    for sample in (
        'predictions_total{label="red"} 1.0',
        'predictions_total{label="blue"} 1.0',
        'http_requests_total{method="POST",route="/predict",status="200"} 1.0',
        'http_requests_total{method="GET",route="unmatched",status="404"} 50.0',
        'http_requests_total{method="OTHER",route="unmatched",status="405"} 50.0',
        'http_request_duration_seconds_count{route="/predict"} 1.0',
        "prediction_confidence_count 2.0",
        "inference_duration_seconds_count 2.0",
        "preprocess_duration_seconds_count 2.0",
        "predictions_in_flight 0.0",
        'model_info{arch="simple_cnn",engine="onnx",sha256="',
        "model_load_seconds 0.",
        "model_download_seconds 0.0",
        "process_resident_memory_bytes",
        "process_memory_limit_bytes",
        "predictions_waiting 0.0",
        'connections_closed_total{reason="unread"} 0',
        "predictions_workers ",
        "photo_brightness_count 2.0",
        'photo_aspect_ratio_bucket{le="1.45"} 0.0',
        'photo_aspect_ratio_bucket{le="1.9"} 2.0',
        'photo_short_side_pixels_bucket{le="32.0"} 0.0',
        'photo_short_side_pixels_bucket{le="64.0"} 2.0',
        "model_download_failures_total 0.0",
        "model_stale 0.0",
        'http_requests_total{method="POST",route="/predict",status="500"} 0.0',
        'predictions_rejected_total{reason="queue_full"} 0.0',
        'feedback_judged_total{correct="false"} 0.0',
        'feedback_by_model_total{correct="false",model="',
        'model_test_figure{figure="accuracy"} 0.99',
    ):
        assert f"\n{sample}" in text
    assert 'route="/scan' not in text
    assert "ODD" not in text
    assert "_created" not in text


def test_reference_bounds_are_written_like_the_histograms(make_app, make_model):
    shares = {
        "labels": {"red": 0.25, "blue": 0.75},
        "brightness": {"0.5": 0.4},
        "short_side_pixels": {"224": 0.1},
    }
    model = make_model("described.pt", reference=shares | {"unheard_of": {"1": 0.5}})
    client = make_app(model_url=model.as_uri()).test_client()
    text = client.get("/metrics").text
    for sample in (
        'model_reference_label_share{label="red"} 0.25',
        'model_reference_share{le="0.5",statistic="brightness",version="test-1"} 0.4',
        'model_reference_share{le="224.0",statistic="short_side_pixels",version="test-1"} 0.1',
        'photo_short_side_pixels_bucket{le="224.0"} 0.0',
    ):
        assert f"\n{sample}\n" in text
    assert "unheard_of" not in text
    assert client.get("/model").get_json()["reference"]["labels"] == shares["labels"]


def test_a_token_protects_only_the_metrics(make_app):
    client = make_app(metrics_token="sesame").test_client()
    assert "send METRICS_TOKEN as" in is_problem(client.get("/metrics"), 401)["detail"]
    is_problem(client.get("/metrics", headers={"Authorization": "Bearer wrong"}), 401)
    assert "http_requests_total" in client.get("/metrics", headers={"Authorization": "Bearer sesame"}).text
    assert client.get("/health").status_code == client.get("/ready").status_code == 200
    send(client, RED_JPEG)
    document = client.get("/openapi.json").get_json()["paths"]
    assert document["/metrics"]["get"]["security"] == [{"metricsToken": []}]
    assert {} in document["/predict"]["post"]["security"]


def test_several_apps_in_one_process(make_app):
    first, second = make_app().test_client(), make_app().test_client()
    send(first, RED_JPEG)
    assert 'predictions_total{label="red"} 1.0' in first.get("/metrics").text
    assert 'predictions_total{label="red"} 0.0' in second.get("/metrics").text


@pytest.fixture
def formatted():
    """Return the app's log lines, in the requested format."""

    def attach(formatter: logging.Formatter) -> list[str]:
        handler.setFormatter(formatter)
        logger.addHandler(handler)
        logger.setLevel("INFO")
        return lines

    lines: list[str] = []
    logger, handler = logging.getLogger("app"), logging.Handler()
    handler.emit = lambda record: lines.append(handler.format(record))  # type: ignore[method-assign]
    yield attach
    logger.removeHandler(handler)
    logger.setLevel("NOTSET")


def test_a_log_line_contains_the_prediction_and_nothing_of_the_photo(client, formatted):
    lines = formatted(logs.JsonFormatter())
    headers = {"X-Request-ID": "r1", "X-Private": "hidden"}
    send(client, RED_JPEG, query_string={"name": "hidden"}, headers=headers)
    (text,) = lines
    line = json.loads(text)
    assert list(line) == [
        "time", "level", "message", "request_id", "method", "route", "status", "duration_ms", "bytes",
        "label", "confidence",
    ]  # fmt: skip
    expected = {"route": "/predict", "status": 200, "label": "red", "request_id": "r1", "level": "info"}
    assert line | expected == line
    assert line["confidence"] > 0.5
    assert line["bytes"] > len(RED_JPEG)
    for private in ("hidden", "0.txt", "127.0.0.1"):
        assert private not in text


def test_log_lines_of_several_photos_of_errors_and_for_people(client, formatted):
    lines = formatted(logs.TextFormatter())
    send(client, RED_JPEG, BLUE_PNG)
    client.get("/no/such/path?a=b")
    assert "label=['red', 'blue']" in lines[0]
    assert "route=unmatched status=404" in lines[1]
    assert "such" not in lines[1]
    assert "label" not in lines[1]
