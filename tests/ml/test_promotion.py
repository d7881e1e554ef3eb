"""What becomes champion of a real registry: what is shown to be better, and nothing else."""

import dataclasses
import json
import struct
import zipfile
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from onnx import TensorProto, helper, numpy_helper

from ml.dataset import Dataset
from ml.errors import PipelineError
from ml.evaluation.promotion import Answers, confirm, decide
from ml.evaluation.verdicts import BETTER, INCOMPARABLE, UNSURE, WORSE
from ml.tracking import registry, tracked
from ml.twin import Twin
from tests.conftest import colour_graph, manifest

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
CLASSES = ("red", "blue")
KNOWN = {"method": "distance", "threshold": 0.5}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """A folder with an MLflow store, which takes seconds to make."""
    folder = tmp_path_factory.mktemp("store")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(folder)
        patch.delenv("MLFLOW_TRACKING_URI", raising=False)
        mlflow.set_tracking_uri("sqlite:///mlflow.db")
        mlflow.MlflowClient().search_registered_models()
        yield folder


@pytest.fixture
def named(store, params, request):
    """Parameters with a registered model of this test's own."""
    plain = params.model_dump()
    plain["tracking"]["model"] = request.node.name
    return type(params).model_validate(plain)


@pytest.fixture
def data():
    """Photos that are redder or bluer by so much, one in ten of the other class."""
    random = np.random.default_rng(1)
    labels = np.arange(400) % 2
    lean = np.where(random.random(400) < 0.1, 1 - labels, labels)
    by = random.integers(5, 90, 400)
    images = np.full((400, 32, 32, 3), 128, np.uint8)
    images[np.arange(400), :, :, 2 * lean] += by.astype(np.uint8)[:, None, None]
    return Dataset(
        CLASSES, 32, "center_crop", images, labels.astype(np.int64), np.full(400, "test"),
        [f"{number}.png" for number in range(400)], [f"{number:064x}" for number in range(400)],
        np.full((400, 2), 32),
    )  # fmt: skip


def graph(slope=0.05, known=None, size=32):
    """A twin that goes by colour; one with `known` gives that score to the darker photos, else 1."""
    plain = colour_graph(size).replace(struct.pack("<f", 0.05), struct.pack("<f", slope))
    if known is None:
        return plain
    import onnx

    model = onnx.load_from_string(plain)
    model.graph.initializer.extend(
        [
            numpy_helper.from_array(np.array([1], np.int64), "channel"),
            numpy_helper.from_array(np.array(135, np.float32), "medium"),
            numpy_helper.from_array(np.array(known, np.float32), "dark"),
            numpy_helper.from_array(np.array(1, np.float32), "bright"),
        ]
    )
    model.graph.node.extend(
        [
            helper.make_node("ReduceMean", ["rgb", "channel"], ["grey"], keepdims=0),
            helper.make_node("Less", ["grey", "medium"], ["is_dark"]),
            helper.make_node("Where", ["is_dark", "dark", "bright"], ["known"]),
        ]
    )
    model.graph.output.append(helper.make_tensor_value_info("known", TensorProto.FLOAT, ["N"]))
    return model.SerializeToString()


def answers(onnx, data):
    found = Twin(onnx).ask(data, data.rows("test"))
    return Answers(found["probabilities"], found.get("known", np.ones(400)))


def hold(params, onnx, **changes):
    """Register a model as champion; return its number."""
    path = Path("held.pt")
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/extra/model.json", json.dumps(manifest(**changes)))
        archive.writestr("archive/extra/model.onnx", onnx)
    path.rename("model.pt")
    with tracked(params.tracking) as run:
        number = registry.register(params.tracking.model, Path("model.pt"), run, "v", "digest")
    registry.promote(params.tracking.model, number)
    return number


def test_the_first_is_champion(named, data):
    first = decide(named, answers(graph(), data), data)
    assert (first.promoted, first.verdict, first.holder) == (True, INCOMPARABLE, "")
    assert first.reasons == ["there is no champion yet"]
    assert first.test_digest == data.digest("test")


def test_who_is_shown_to_be_better_takes_its_place(named, data):
    number = hold(named, graph(0.02, known=1.0), known=KNOWN)
    # Slopes: steep ones are surer than these photos allow, flat ones less sure.
    better = decide(named, answers(graph(0.04, known=1.0), data), data)
    assert better.holder == number
    assert (better.promoted, better.verdict) == (True, BETTER)
    assert "clearly better" in better.reasons[0]
    assert better.paired.log_loss.high < 0
    assert {"promoted", "mcnemar_p", "log_loss_difference_low"} < set(better.figures())
    worse = decide(named, answers(graph(0.002, known=1.0), data), data)
    assert (worse.promoted, worse.verdict) == (False, WORSE)
    assert f"the champion, version {number}, stays: the candidate is clearly worse" in worse.reasons[0]
    wrong = decide(named, answers(graph(-0.02, known=1.0), data), data)
    assert wrong.paired.accuracy.verdict == WORSE
    assert any(reason.startswith("labels: worse; of 400 photos") for reason in wrong.reasons)


def test_who_is_no_better_does_not(named, data):
    hold(named, graph(0.03, known=1.0), known=KNOWN)
    for slope in (0.03, 0.0302):
        same = decide(named, answers(graph(slope, known=1.0), data), data)
        assert (same.promoted, same.verdict) == (False, UNSURE)
        assert "stays: nothing shows clearly" in same.reasons[0]


def test_who_can_say_that_it_does_not_know_and_is_as_good_takes_its_place(named, data):
    hold(named, graph(0.03))
    same = decide(named, answers(graph(0.0302, known=1.0), data), data)
    assert (same.promoted, same.verdict, same.refused) == (True, UNSURE, None)
    assert "none of the classes" in same.reasons[0]
    assert not decide(named, answers(graph(0.002, known=1.0), data), data).promoted


def test_who_refuses_more_is_worse_and_who_tells_more_strangers_is_better(named, data):
    hold(named, graph(0.02, known=1.0), known=KNOWN)
    refuses = decide(named, answers(graph(0.02, known=0.1), data), data)
    assert (refuses.promoted, refuses.verdict) == (False, WORSE)
    assert refuses.refused.holder > 10
    surer = decide(named, answers(graph(0.045, known=0.1), data), data)
    assert BETTER in surer.paired.verdicts
    assert surer.verdict == WORSE  # what is worse weighs more
    others = np.full((50, 32, 32, 3), 60, np.uint8)
    candidate = dataclasses.replace(answers(graph(0.02, known=1.0), data), others=np.full(50, 0.2))
    tells = decide(named, candidate, data, others)
    assert (tells.promoted, tells.verdict, tells.others.candidate) == (True, BETTER, 50)
    assert any("something else" in reason for reason in tells.reasons)


@pytest.mark.parametrize(
    ("changes", "onnx", "said"),
    [
        ({"classes": ("red", "green")}, graph(), "other classes"),
        ({"classes": ("blue", "red")}, graph(), "other classes"),
        ({"image_size": 48}, graph(size=48), "48 pixels"),
        ({"resize": "squash"}, graph(), "(squash)"),
        ({}, b"\x08\x09 no graph", "doesn't run"),
        ({"format": 9}, graph(), "format 9"),
    ],
)
def test_who_can_not_answer_these_photos_is_replaced(named, data, changes, onnx, said):
    number = hold(named, onnx, **changes)
    found = decide(named, answers(graph(), data), data)
    assert (found.promoted, found.verdict, found.holder) == (True, INCOMPARABLE, number)
    assert said in found.reasons[0]
    assert "\n" not in found.reasons[0]


def test_a_store_that_can_not_be_asked_is_no_empty_one(named, data, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MlflowException):
        decide(named, answers(graph(), data), data)


def test_the_twin_must_bear_out_what_was_decided_of_the_network(named, data, tmp_path):
    path = tmp_path / "promotion.json"
    hold(named, graph(0.02, known=1.0), known=KNOWN)
    better, same = (decide(named, answers(graph(slope, known=1.0), data), data) for slope in (0.04, 0.02))
    for evaluated, twin, promoted in (
        (better, better, True),
        (better, same, False),
        (same, better, False),
        (same, same, False),
    ):
        evaluated.write(path)
        found = confirm(path, twin)
        assert found.promoted is promoted
        assert found.reasons == (evaluated if twin.promoted else twin).reasons
    # Another champion, or other photos, by now: the former decision says nothing on them.
    for changes in ({"holder": "99"}, {"test_digest": "0"}):
        dataclasses.replace(same, **changes).write(path)
        assert confirm(path, better).promoted
    for text in ("{}", "[]", "no"):
        path.write_text(text)
        with pytest.raises(PipelineError, match="missing or broken"):
            confirm(path, better)
