"""What the network sees, as metrics that rules compare with the training reference."""

from collections.abc import Callable
from pathlib import Path

import pytest
from flask import Flask

from app.inference import loading
from ml.model.errors import BundleError
from ml.model.reference import COMPONENTS
from tests.app.routes.test_predict import send
from tests.conftest import BLUE, RED, coloured, encode
from tests.helpers.graphs import KNOWN, telling_graph

MakeModel = Callable[..., Path]
REFERENCE = {"component_1": {"-0.52": 0.3, "0.0": 0.5}, "component_2": {"0.0": 0.5}, "known": {"0.99": 0.4}}
PHOTOS = [encode(coloured(colour), "PNG") for colour in (RED, RED, BLUE)]


def samples(make_app: Callable[..., Flask], model: Path) -> dict[str, float]:
    """Metrics after three photos, which also get their usual answers."""
    client = make_app(model_url=model.as_uri()).test_client()
    answers = send(client, *PHOTOS).get_json()["predictions"]
    assert [answer["label"] for answer in answers] == ["red", "red", "blue"]
    lines = [line for line in client.get("/metrics").text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_components_and_known_are_counted_beside_their_reference(make_app, make_model: MakeModel) -> None:
    graph = telling_graph(components=2)
    counted = samples(make_app, make_model("telling.pt", graph=graph, known=KNOWN, reference=REFERENCE))
    for name in ("component_1", "component_2"):
        labels = f'statistic="{name}",version="test-1"'
        assert counted[f'photo_component_bucket{{le="0.0",{labels}}}'] == 1  # blue
        assert counted[f"photo_component_count{{{labels}}}"] == 3
        assert counted[f'model_reference_share{{le="0.0",{labels}}}'] == 0.5
    assert counted["prediction_known_count"] == 3
    assert counted['model_reference_share{le="0.99",statistic="known",version="test-1"}'] == 0.4


@pytest.mark.parametrize(
    ("components", "reference"),
    [(0, {}), (0, REFERENCE), (2, {})],
    ids=["neither", "no output", "no reference"],
)
def test_a_model_without_them_answers_and_lacks_the_metric(
    make_app, make_model: MakeModel, components: int, reference: dict[str, dict[str, float]]
) -> None:
    graph = telling_graph(components=components)
    counted = samples(make_app, make_model("telling.pt", graph=graph, known=KNOWN, reference=reference))
    assert not [name for name in counted if name.startswith("photo_component_") and counted[name]]
    assert counted["prediction_known_count"] == 3


@pytest.mark.parametrize("count", [COMPONENTS + 1, 100])
def test_more_components_than_there_are_metrics_for_are_rejected(make_model: MakeModel, count: int) -> None:
    with pytest.raises(BundleError, match=f"has {count} components, expected 1 to {COMPONENTS}"):
        loading.load(make_model("telling.pt", graph=telling_graph(components=count), known=KNOWN), "onnx", 1)
