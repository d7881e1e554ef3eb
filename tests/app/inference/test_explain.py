"""POST /predict?explain=1: the grid, the part of the photo that it covers, and the overlay."""

import base64
import io
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnx
import pytest
from flask import Flask
from flask.testing import FlaskClient
from onnx import TensorProto
from PIL import Image

from app.inference import loading
from ml.model.errors import BundleError
from ml.model.explain import explain
from ml.model.image import Decoded
from tests.app.inference.test_loading import baseline
from tests.app.routes.test_predict import RED_JPEG, is_problem, send
from tests.conftest import BLUE, RED, coloured, encode
from tests.helpers.graphs import GREEN, KNOWN, telling_graph

WHY = {"query_string": {"explain": "1"}}


@pytest.fixture
def client(make_model: Callable[..., Path], make_app: Callable[..., Flask]) -> FlaskClient:
    model = make_model("telling.pt", graph=telling_graph(), known=KNOWN)
    return make_app(model_url=model.as_uri()).test_client()


def spot(x: int, y: int, width: int = 80, height: int = 80, colour: tuple[int, int, int] = RED) -> np.ndarray:
    """A blue photo with a spot of 20 pixels of another colour."""
    pixels = np.full((height, width, 3), (70, 70, 110), np.uint8)
    pixels[y : y + 20, x : x + 20] = colour
    return pixels


def overlay(explanation: dict) -> np.ndarray:
    kind, _, data = explanation["overlay"].partition(",")
    assert kind == "data:image/png;base64"
    with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as picture:
        assert (picture.format, picture.mode) == ("PNG", "RGBA")
        return np.asarray(picture)


@pytest.mark.parametrize(("column", "row"), [(0, 0), (3, 1), (1, 3)])
def test_the_evidence_is_where_the_spot_is(client: FlaskClient, column: int, row: int) -> None:
    bright = spot(column * 20, row * 20, colour=(255, 0, 0))
    answer = send(client, encode(bright, "PNG"), **WHY).get_json()
    explanation = answer["explanation"]
    assert list(explanation) == ["grid", "box", "overlay"]
    # The label may be another: what is explained is the likeliest class.
    grid = np.array(explanation["grid"])
    top = max(answer["probabilities"], key=answer["probabilities"].__getitem__)
    place = np.unravel_index(grid.argmax() if top == "red" else grid.argmin(), grid.shape)
    assert grid.shape == (4, 4)
    assert (place[1], place[0]) == (column, row)
    assert grid.min() >= 0
    assert grid.max() == 1
    assert explanation["box"] == [0, 0, 1, 1]
    alpha = overlay(explanation)[..., 3].astype(float)
    cells = alpha.reshape(4, alpha.shape[0] // 4, 4, -1).mean((1, 3))
    assert np.corrcoef(cells.ravel(), grid.ravel())[0, 1] > 0.95


def test_the_box_is_the_part_of_the_rotated_photo_that_the_model_sees(client: FlaskClient) -> None:
    wide, tall = encode(coloured(RED, 120, 80), "PNG"), encode(coloured(RED, 70, 90), "PNG")
    exif = Image.Exif()
    exif[0x0112] = 6  # a quarter turn
    turned = encode(coloured(RED, 120, 80), exif=exif)
    uneven = encode(coloured(RED, 451, 300), "PNG")
    predictions = send(client, wide, tall, turned, uneven, **WHY).get_json()["predictions"]
    boxes = [prediction["explanation"]["box"] for prediction in predictions]
    assert boxes[0] == pytest.approx([1 / 6, 0, 5 / 6, 1], abs=1e-6)
    assert boxes[1] == pytest.approx([0, 1 / 9, 1, 8 / 9], abs=1e-6)
    assert boxes[2] == pytest.approx([0, 1 / 6, 1, 5 / 6], abs=1e-6)
    assert boxes[3] == [0.167406, 0, 0.832594, 1]
    assert all(value == round(value, 6) for box in boxes for value in box)


def test_the_box_of_a_squashed_photo_is_all_of_it(
    make_model: Callable[..., Path], make_app: Callable[..., Flask]
) -> None:
    model = make_model("squash.pt", graph=telling_graph(), resize="squash")
    client = make_app(model_url=model.as_uri()).test_client()
    photo = encode(coloured(RED, 120, 40), "PNG")
    assert send(client, photo, **WHY).get_json()["explanation"]["box"] == [0, 0, 1, 1]


def test_an_explanation_comes_only_on_request_and_changes_nothing_else(client: FlaskClient) -> None:
    plain = send(client, RED_JPEG).get_json()
    for asked in ({}, {"query_string": {"explain": "0"}}):
        assert "explanation" not in send(client, RED_JPEG, **asked).get_json()
    explained = send(client, RED_JPEG, **WHY).get_json()
    assert {name: explained[name] for name in ("label", "probabilities", "known")} == {
        name: plain[name] for name in ("label", "probabilities", "known")
    }
    raw = client.post("/predict?explain=1", data=RED_JPEG, content_type="image/jpeg").get_json()
    assert raw["explanation"] == explained["explanation"]


def test_an_unknown_photo_is_explained_too(client: FlaskClient) -> None:
    answer = send(client, encode(coloured(GREEN), "PNG"), **WHY).get_json()
    assert answer["label"] == "unknown"
    assert set(answer["explanation"]) == {"grid", "box", "overlay"}


@pytest.mark.parametrize("asked", ["2", "", "true", "-1", "1 ", "\N{FULLWIDTH DIGIT ONE}"])
def test_other_values_are_rejected(client: FlaskClient, asked: str) -> None:
    told = is_problem(send(client, RED_JPEG, query_string={"explain": asked}), 400)
    assert told["detail"] == "'explain' must be 0 or 1"


def test_a_model_without_evidence_answers_400(client: FlaskClient, make_app: Callable[..., Flask]) -> None:
    without = make_app().test_client()
    told = is_problem(send(without, RED_JPEG, **WHY), 400)
    assert told["detail"] == "this model can't explain its predictions"
    assert "preprocess_duration_seconds_count 0.0" in without.get("/metrics").text  # at no cost
    assert send(without, RED_JPEG, query_string={"explain": "0"}).status_code == 200
    assert without.get("/model").get_json()["explains"] is False
    assert client.get("/model").get_json()["explains"] is True


def test_plain_checkpoints_are_explained(make_app: Callable[..., Flask], tmp_path: Path) -> None:
    model = baseline("simple_cnn", tmp_path / "plain.pt")
    client = make_app(model_url=model.as_uri()).test_client()
    assert client.get("/model").get_json()["engine"] == "torch"
    answer = send(client, RED_JPEG, **WHY).get_json()
    assert np.array(answer["explanation"]["grid"]).shape == (7, 7)
    assert "known" not in answer


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf, 3e38, -3e38, 0])
def test_invalid_evidence_counts_as_none(value: float) -> None:
    evidence = np.zeros((3, 4, 4), np.float32)
    evidence[0, 0, 0] = evidence[1, 1, 1] = value
    photo = Decoded(np.zeros((8, 8, 3), np.uint8), 8, 8)
    grid = np.array(explain(evidence, 0, photo, "squash").grid)
    assert np.isfinite(grid).all()
    assert 0 <= grid.min() <= grid.max() <= 1


@pytest.mark.parametrize(
    ("shape", "message"),
    [
        (["N", 2, 4], "fixed height"), (["N", 2, 4, 0], "fixed height"), (["N", 2, 65, 4], "fixed height"),
        (["N", 2, "h", 4], "fixed height"), (["N", 3, 4, 4], "expected tensor"),
        ([1, 2, 4, 4], "expected tensor"),
    ],
)  # fmt: skip
def test_evidence_of_a_wrong_shape_is_rejected(
    make_model: Callable[..., Path], shape: list, message: str
) -> None:
    with pytest.raises(BundleError, match=f"its ONNX model has evidence .*{message}") as caught:
        loading.load(make_model(graph=with_evidence(shape)), "onnx", 1)
    assert "\n" not in str(caught.value)


def test_a_grid_of_any_size_is_explained(
    make_model: Callable[..., Path], make_app: Callable[..., Flask]
) -> None:
    model = make_model("wide.pt", graph=with_evidence(["N", 2, 1, 64]))
    client = make_app(model_url=model.as_uri()).test_client()
    explanation = send(client, RED_JPEG, **WHY).get_json()["explanation"]
    assert np.array(explanation["grid"]).tolist() == [[0] * 64]
    assert not overlay(explanation)[..., 3].any()


def with_evidence(shape: list[int | str]) -> bytes:
    """An ONNX model whose evidence has that shape and is 0 everywhere; "h" is a dynamic size."""
    model = onnx.load_from_string(telling_graph(evidence=False))
    model.graph.initializer.extend(
        onnx.numpy_helper.from_array(np.array([size], np.int64), f"size {size}")
        for size in {-1, *(size for size in shape if isinstance(size, int))}
    )
    node = onnx.helper.make_node
    model.graph.node.extend(
        [
            node("Shape", ["image"], ["size N"], start=0, end=1),
            node("ReduceMax", ["float"], ["largest"], keepdims=0),
            node("Cast", ["largest"], ["whole"], to=TensorProto.INT64),
            node("Reshape", ["whole", "size -1"], ["size h"]),
            node("Concat", [f"size {size}" for size in shape], ["shape"], axis=0),
            node("ConstantOfShape", ["shape"], ["evidence"]),
        ]
    )
    model.graph.output.append(onnx.helper.make_tensor_value_info("evidence", TensorProto.FLOAT, shape))
    return model.SerializeToString()


def test_an_overlay_is_small() -> None:
    evidence = np.random.default_rng(0).normal(size=(2, 7, 7)).astype(np.float32)
    photo = Decoded(np.zeros((224, 224, 3), np.uint8), 500, 375)
    assert len(explain(evidence, 1, photo, "center_crop").overlay) < 30_000


def test_without_evidence_for_the_class_the_least_against_it_shows() -> None:
    photo = Decoded(np.zeros((8, 8, 3), np.uint8), 8, 8)
    evidence = np.zeros((2, 2, 2), np.float32)
    evidence[1] = [[4, 3], [1, 2]]
    assert explain(evidence, 0, photo, "squash").grid == [[0, 0.333], [1, 0.667]]
    assert explain(np.zeros((2, 2, 2), np.float32), 0, photo, "squash").grid == [[0, 0], [0, 0]]


def test_blue_is_explained_by_blue(client: FlaskClient) -> None:
    photo = encode(spot(60, 0, colour=BLUE), "PNG")
    answer = send(client, photo, **WHY).get_json()
    assert max(answer["probabilities"], key=answer["probabilities"].__getitem__) == "blue"
    assert np.array(answer["explanation"]["grid"])[0, 3] == 1
