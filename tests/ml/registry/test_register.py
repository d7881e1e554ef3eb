"""Registration in a real MLflow store: a version per file, and a champion that is shown to be the best."""

import argparse
import contextlib
import hashlib
import json
import re
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import mlflow
import numpy as np
import pytest
from mlflow.exceptions import MlflowException
from onnx import TensorProto, helper, numpy_helper
from PIL import Image

from ml.data.dataset import Dataset
from ml.evaluation.compare import BETTER, INCOMPARABLE, UNSURE, WORSE
from ml.model.errors import PipelineError
from ml.model.onnx_model import OnnxModel
from ml.registry import register, registry
from ml.tracking.store import StoreError, reported
from tests.conftest import colour_graph, manifest
from tests.helpers.prepared import write_prepared

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]
CLASSES = ("red", "blue")
REPORT, PROMOTION = Path("reports/package/package.json"), Path("reports/promotion.json")
KNOWN = {"method": "distance", "threshold": 0.5}


@pytest.fixture(scope="module")
def store(tmp_path_factory):
    """The address of an MLflow store, which takes seconds to create."""
    folder = tmp_path_factory.mktemp("store")
    address = f"sqlite:///{folder}/mlflow.db"
    with contextlib.chdir(folder):  # MLflow puts the files of runs into the current folder
        mlflow.set_tracking_uri(address)
        mlflow.MlflowClient().search_registered_models()
    yield address
    mlflow.set_tracking_uri(None)


@pytest.fixture
def named(store, params, request, tmp_path, monkeypatch):
    """Parameters with a registered model of this test's own, in a folder of its own."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    for folder in ("models", "reports/package"):
        Path(folder).mkdir(parents=True)
    plain = params.model_dump()
    plain["tracking"]["model"] = request.node.name
    return type(params).model_validate(plain)


@pytest.fixture
def data(named):
    """Prepared photos that are more or less red or blue; one in ten has the wrong colour."""
    random = np.random.default_rng(1)
    labels = np.arange(400) % 2
    lean = np.where(random.random(400) < 0.1, 1 - labels, labels)
    by = random.integers(5, 90, 400)
    images = np.full((400, 32, 32, 3), 128, np.uint8)
    images[np.arange(400), :, :, 2 * lean] += by.astype(np.uint8)[:, None, None]
    photos = [
        {"label": int(label), "split": "test", "path": f"{number}.png", "sha256": f"{number:064x}",
         "size": [32, 32]}
        for number, label in enumerate(labels)
    ]  # fmt: skip
    write_prepared(images, photos, CLASSES, Path("data/processed"))


def graph(slope=0.05, known=None, size=32):
    """An ONNX model that goes by colour; with `known`, the darker photos get that OOD score, the others 1."""
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


@pytest.fixture
def packaged(named):
    """Write a model.pt and its report, as stage package does."""

    def write(onnx, run_id="no such run", **changes):
        model = Path("models/model.pt")
        with zipfile.ZipFile(model, "w") as archive:
            archive.writestr("archive/data.pkl", b"\x80\x02}.")
            archive.writestr("archive/extra/model.json", json.dumps(manifest(**changes)))
            archive.writestr("archive/extra/model.onnx", onnx)
        digest = hashlib.sha256(model.read_bytes()).hexdigest()
        report = {"sha256": digest, "run_id": run_id, "twin": {"accuracy": 0.9}, "known": {"refused": 0.01}}
        report |= {"mean_difference": 0.001, "test_digest": Dataset.load().digest("test")}
        REPORT.write_text(json.dumps(report))
        stability = {"changes": {"mirrored": {"share": 0.02}}}
        REPORT.with_name("stability.json").write_text(json.dumps(stability))

    return write


@pytest.fixture
def registered(named, data, packaged):
    """Register a model that `packaged` writes; return the number of its version, and the decision."""

    def run(onnx, params=named, **changes):
        packaged(onnx, **changes)
        name, number, promotion = register.run(params)
        assert name == params.tracking.model
        return number, promotion

    return run


def test_the_first_is_the_champion(registered, named):
    number, first = registered(graph())
    assert (first.promoted, first.verdict) == (True, INCOMPARABLE)
    assert first.reasons == ["there is no champion yet"]
    assert registry.champion(named.tracking.model).number == number
    decision = json.loads(PROMOTION.read_text())
    assert decision["test_digest"] == Dataset.load().digest("test")
    assert (decision["promoted"], decision["champion"], decision["version"]) == (True, "", number)


def test_a_model_that_is_shown_to_be_better_becomes_the_champion(registered, named):
    number, _ = registered(graph(0.02, known=1.0), known=KNOWN)
    # Slopes: steep ones are surer than these photos allow, flat ones less sure.
    worse = registered(graph(0.002, known=1.0))[1]
    assert (worse.promoted, worse.verdict) == (False, WORSE)
    assert f"the champion, version {number}, stays: the new model is clearly worse" in worse.reasons[0]
    wrong = registered(graph(-0.02, known=1.0))[1]
    assert wrong.paired.accuracy.verdict == WORSE
    assert any(reason.startswith("labels: worse; of 400 photos") for reason in wrong.reasons)
    assert registry.champion(named.tracking.model).number == number

    new, better = registered(graph(0.04, known=1.0))
    assert json.loads(PROMOTION.read_text())["champion"] == number
    assert (better.promoted, better.verdict) == (True, BETTER)
    assert "clearly better" in better.reasons[0]
    assert better.paired.log_loss.high < 0
    assert {"promoted", "mcnemar_p", "log_loss_difference_low"} < set(better.metrics())
    assert registry.champion(named.tracking.model).number == new


def test_a_model_that_is_not_better_does_not(registered):
    registered(graph(0.03, known=1.0), known=KNOWN)
    for slope in (0.03, 0.0302):
        same = registered(graph(slope, known=1.0), version=f"slope {slope}")[1]
        assert (same.promoted, same.verdict) == (False, UNSURE)
        assert "stays: the new model is not clearly better" in same.reasons[0]


def test_a_champion_without_an_ood_score_is_compared_by_its_answers_alone(registered):
    registered(graph(0.03))
    same = registered(graph(0.0302, known=1.0))[1]
    assert (same.promoted, same.verdict, same.accepted) == (False, UNSURE, None)


def test_more_unknown_test_photos_are_worse_and_more_detected_ood_photos_better(registered, named, tmp_path):
    (tmp_path / "ood").mkdir()
    for number in range(50):
        Image.new("RGB", (32, 32), (60, 60, number)).save(tmp_path / "ood" / f"{number}.png")
    plain = named.model_dump()
    plain["evaluate"]["other"] = str(tmp_path / "ood")
    with_ood = type(named).model_validate(plain)

    registered(graph(0.02, known=1.0), with_ood, known=KNOWN)
    more_unknown = registered(graph(0.02, known=0.1), known=KNOWN)[1]
    assert (more_unknown.promoted, more_unknown.verdict) == (False, WORSE)
    assert more_unknown.accepted.baseline > 10
    both = registered(graph(0.045, known=0.1), known=KNOWN)[1]
    assert BETTER in both.paired.verdicts
    assert both.verdict == WORSE  # anything worse outweighs anything better
    dark = graph(0.02, known=0.1).replace(struct.pack("<f", 135), struct.pack("<f", 100))
    detects = registered(dark, with_ood, known=KNOWN)[1]
    assert (detects.promoted, detects.verdict, detects.detected.candidate) == (True, BETTER, 50)
    assert any("OOD photos that are classified as unknown" in reason for reason in detects.reasons)


@pytest.mark.parametrize(
    ("changes", "onnx", "message"),
    [
        ({}, b"\x08\x09 no graph", "does not run"),
        ({"format": 9}, graph(), "bad format"),
    ],
)
def test_a_champion_that_cannot_answer_these_photos_is_replaced(
    registered, named, monkeypatch, changes, onnx, message
):
    with monkeypatch.context() as patch:
        patch.setattr(register.bundle, "read", lambda path: argparse.Namespace(
            sha256=hashlib.sha256(path.read_bytes()).hexdigest(),
            manifest=argparse.Namespace(version="old", classes=CLASSES, shortfalls=()),
        ))  # fmt: skip
        number, _ = registered(onnx, **changes)
    new, promotion = registered(graph())
    assert (promotion.promoted, promotion.verdict) == (True, INCOMPARABLE)
    assert f"the champion, version {number}, cannot answer these photos: " in promotion.reasons[0]
    assert message in promotion.reasons[0]
    assert "\n" not in promotion.reasons[0]
    assert registry.champion(named.tracking.model).number == new


@pytest.mark.parametrize(
    ("changes", "message"),
    [({"image_size": 48}, r"48 pixels \(center_crop\)"), ({"resize": "squash"}, r"\(squash\)")],
)
def test_a_champion_stays_if_the_photos_that_it_needs_are_missing(registered, named, changes, message):
    number, _ = registered(graph(size=changes.get("image_size", 32)), **changes)
    with pytest.raises(
        PipelineError, match=rf"cannot be compared: .*{message}; data/raw/0\.png cannot be prepared"
    ):
        registered(graph(-0.05))
    assert registry.champion(named.tracking.model).number == number


@pytest.mark.parametrize(
    "error",
    [
        MemoryError("std::bad_alloc"),
        RuntimeError("[ONNXRuntimeError] : 1 : FAIL : Failed to allocate memory"),
    ],
)
def test_a_champion_stays_if_this_machine_has_too_little_memory_for_it(registered, named, monkeypatch, error):
    number, _ = registered(graph())
    run = OnnxModel.run
    answered = []

    def second_fails(*given):
        answered.append(given)
        if len(answered) == 2:
            raise error
        return run(*given)

    monkeypatch.setattr(OnnxModel, "run", second_fails)
    with pytest.raises(PipelineError, match="too little memory"):
        registered(graph(-0.05))
    assert registry.champion(named.tracking.model).number == number


def test_a_class_called_unknown_has_no_rejected_photos(registered, data):
    photos = Path("data/processed/splits.json")
    photos.write_text(photos.read_text().replace('"blue"', '"unknown"'))
    classes = {"classes": ["red", "unknown"], "known": KNOWN}
    registered(graph(0.02, known=1.0), **classes)
    new = registered(graph(0.045, known=0.1), **classes)[1]
    assert (new.promoted, new.verdict, new.accepted) == (True, BETTER, None)


def test_a_candidate_is_promoted_only_if_it_is_forced(registered, named):
    reason = "accuracy of at least 0.97: accuracy 0.9 on 400 test photos"
    short = {"shortfalls": [reason]}
    number, refused = registered(graph(0.02), **short)
    assert not refused.promoted
    assert refused.reasons[:2] == ["the model is only a candidate", reason]
    assert "python -m ml register --candidate" in refused.reasons[-1]
    assert registry.champion(named.tracking.model) is None
    assert register.run(named, accept_candidate=True)[2].promoted
    assert registry.champion(named.tracking.model).number == number

    new, refused = registered(graph(0.04), **short)
    assert not refused.promoted
    assert registry.champion(named.tracking.model).number == number
    assert register.run(named, accept_candidate=True)[2].verdict == BETTER
    assert register.run(named)[2].promoted  # as decided, though it is a candidate
    assert registry.champion(named.tracking.model).number == new
    worse = registered(graph(-0.02), **short)[0]  # even a forced one must not be worse than the champion
    assert worse != new
    assert register.run(named, accept_candidate=True)[2].verdict == WORSE
    assert registry.champion(named.tracking.model).number == new


def test_registering_a_file_twice_makes_one_version(registered, named):
    registered(graph(0.02))
    number, better = registered(graph(0.04))
    decision = PROMOTION.read_text()
    assert better.verdict == BETTER
    _, again, same = register.run(named)
    assert (again, same.promoted, same.reasons) == (number, True, better.reasons)
    assert PROMOTION.read_text() == decision
    client = mlflow.MlflowClient()
    versions = client.search_model_versions(f"name='{named.tracking.model}'")
    assert len(versions) == 2
    for text in ("", "{}", "[]", json.dumps(json.loads(decision) | {"sha256": "0" * 64})):
        PROMOTION.write_text(text)
        assert register.run(named)[2].reasons == [f"version {number} is the champion already"]
        assert json.loads(PROMOTION.read_text())["promoted"]


@pytest.mark.parametrize("moved", [True, False])
def test_a_champion_that_somebody_has_taken_back_stays_away(registered, named, moved):
    first, _ = registered(graph(0.02))
    number, _ = registered(graph(0.04))
    client, name = mlflow.MlflowClient(), named.tracking.model
    if moved:
        client.set_registered_model_alias(name, registry.CHAMPION, first)
    else:
        client.delete_registered_model_alias(name, registry.CHAMPION)
    for _ in range(2):
        promotion = register.run(named)[2]
        assert not promotion.promoted
        assert "it was before, and does not come back by itself" in promotion.reasons[0]
    assert register.run(named, accept_candidate=True)[2].promoted
    assert registry.champion(name).number == number


def test_classes_that_others_registered_under_the_name_meanwhile_are_not_replaced(registered, named):
    registered(graph())
    name, client = named.tracking.model, mlflow.MlflowClient()
    client.set_registered_model_tag(name, registry.CLASSES, registry.classes_digest(["melanoma", "nevus"]))
    with mlflow.start_run() as run, pytest.raises(StoreError, match=f"registered other classes as {name}"):
        registry.register(
            name, Path("models/model.pt"), ["red", "blue"], run.info.run_id, {"sha256": "a" * 64}
        )
    assert len(client.search_model_versions(f"name='{name}'")) == 1


def test_a_decision_holds_as_long_as_the_champion(registered, named):
    registered(graph(0.03, known=1.0))
    weaker = {"onnx": graph(0.002, known=1.0), "version": "weaker"}
    number, worse = registered(**weaker)
    assert worse.verdict == WORSE
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(register, "answer_test_photos", None)  # not needed again
        assert register.run(named)[2].reasons == worse.reasons
    mlflow.MlflowClient().delete_registered_model_alias(named.tracking.model, registry.CHAMPION)
    assert register.run(named)[1:] == (number, register.promote_uncompared("there is no champion yet"))


def test_a_model_that_the_registry_lost_is_registered_again(registered, named):
    """A pipeline restores model.pt from its cache, and does not run packaging again."""
    registered(graph(0.02))
    client, name = mlflow.MlflowClient(), named.tracking.model
    run_id = client.get_model_version(name, "1").run_id
    assert client.get_run(run_id).data.metrics.items() > {
        "onnx_accuracy": 0.9, "onnx_refused": 0.01, "flips_mirrored": 0.02, "promotion_promoted": 1.0
    }.items()  # fmt: skip
    client.delete_registered_model(name)
    _, number, promotion = register.run(named)
    assert (number, promotion.reasons) == ("1", ["there is no champion yet"])
    assert registry.champion(name).number == "1"


def test_a_model_that_cannot_answer_these_photos_is_reported(registered):
    registered(graph())
    with pytest.raises(PipelineError, match="the new model cannot answer these photos: its ONNX model "):
        registered(b"\x08\x09 no graph")


def test_a_model_goes_to_the_run_of_its_training(registered, named):
    with register.tracked(named.tracking) as run_id:
        pass
    registered(graph(0.02), run_id=run_id)
    assert mlflow.MlflowClient().get_model_version(named.tracking.model, "1").run_id == run_id


def test_a_champion_whose_files_cannot_be_reached_stays(registered, named, monkeypatch):
    registered(graph(0.02))
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    name, client = named.tracking.model, mlflow.MlflowClient()
    away = client.create_model_version(name, "mlflow-artifacts://127.0.0.1:9/1/files")
    client.set_registered_model_alias(name, registry.CHAMPION, away.version)
    with pytest.raises(StoreError), reported():
        registered(graph())
    assert registry.champion(name).number == str(away.version)


def test_a_training_that_is_packaged_again_keeps_the_champion_s_file(registered, named):
    with register.tracked(named.tracking) as run_id:
        pass
    registered(graph(0.04), run_id=run_id)
    assert registered(graph(-0.04), run_id=run_id)[1].verdict == WORSE
    name = named.tracking.model
    for number in ("1", "2"):
        version = mlflow.MlflowClient().get_model_version(name, number)
        (file,) = Path(mlflow.artifacts.download_artifacts(f"models:/{name}/{number}")).rglob("model.pt")
        assert hashlib.sha256(file.read_bytes()).hexdigest() == version.tags["sha256"]
    load = f"import mlflow; mlflow.pyfunc.load_model('models:/{name}@champion')"
    subprocess.run([sys.executable, "-c", load], check=True)


def test_a_version_of_an_earlier_project_is_still_compared(registered, named):
    """Its folder is called `model`."""
    number, _ = registered(graph(0.03))
    name, client = named.tracking.model, mlflow.MlflowClient()
    version = client.get_model_version(name, number)
    former = Path(version.source).rename(Path(version.source).with_name("model"))
    version = client.create_model_version(name, str(former), version.run_id, tags=version.tags)
    registry.promote(name, version.version)
    assert registered(graph(0.0302))[1].verdict == UNSURE


@pytest.mark.parametrize(("content", "reason"), [(None, "has no model.pt"), (b"another", "is not the one")])
def test_a_champion_without_its_file_stays(registered, named, content, reason):
    number, _ = registered(graph(0.04))
    name, client = named.tracking.model, mlflow.MlflowClient()
    file = Path(client.get_model_version(name, number).source, "data", "model.pt")
    file.unlink() if content is None else file.write_bytes(content)
    message = rf"{re.escape(name)} version {number} cannot be compared: .*{reason}.*alias `champion`"
    for _ in range(2):
        with pytest.raises(StoreError, match=message):
            registered(graph(-0.04))
        assert registry.champion(name).number == number
    client.delete_registered_model_alias(name, registry.CHAMPION)
    assert register.run(named)[2].promoted


@pytest.mark.parametrize("logged", [False, True])
def test_a_champion_that_another_tool_registered_stays(registered, named, tmp_path, logged):
    """It is the folder of a run, or a model of its own in MLflow."""
    name, client = named.tracking.model, mlflow.MlflowClient()
    source = f"models:/{client.create_logged_model('0').model_id}" if logged else str(tmp_path)
    client.create_registered_model(name)
    theirs = client.create_model_version(name, source)
    registry.promote(name, theirs.version)
    with pytest.raises(StoreError, match=r"has no model\.pt .*python -m ml params tracking\.model=NAME"):
        registered(graph())
    assert [version.version for version in client.search_model_versions(f"name='{name}'")] == [theirs.version]
    client.delete_registered_model_alias(name, registry.CHAMPION)
    assert register.run(named)[2].reasons == ["there is no champion yet"]


@pytest.fixture
def promoted_meanwhile(registered, named, monkeypatch):
    """Have somebody else promote models, one during each comparison."""

    def prepare(*slopes):
        others = [registered(graph(slope))[0] for slope in slopes]
        compare = register._compare

        def slow(*arguments):
            promotion = compare(*arguments)
            if others:
                registry.promote(named.tracking.model, others.pop(0))
            return promotion

        monkeypatch.setattr(register, "_compare", slow)

    return prepare


def test_a_better_model_that_was_promoted_during_the_comparison_stays(registered, named, promoted_meanwhile):
    first, _ = registered(graph(0.005))
    promoted_meanwhile(0.03)
    registry.promote(named.tracking.model, first)
    worse = registered(graph(0.012))[1]
    assert (worse.promoted, worse.verdict) == (False, WORSE)
    assert registry.champion(named.tracking.model).number == "2"
    assert json.loads(PROMOTION.read_text())["champion"] == "2"


def test_a_champion_that_changes_again_and_again_ends_the_comparisons(registered, named, promoted_meanwhile):
    first, _ = registered(graph(0.005))
    promoted_meanwhile(0.0051, 0.0052, 0.0053)
    registry.promote(named.tracking.model, first)
    with pytest.raises(StoreError, match=r"another champion during each .*run `python -m ml register` again"):
        registered(graph(0.03))
    assert registry.champion(named.tracking.model).number == "4"
    assert register.run(named)[2].promoted


@pytest.mark.parametrize("accept_candidate", [False, True])
def test_a_model_whose_run_was_deleted_is_registered(registered, named, accept_candidate):
    with register.tracked(named.tracking) as run_id:
        pass
    client = mlflow.MlflowClient()
    if accept_candidate:
        registered(graph(), run_id=run_id, shortfalls=["accuracy"])
        client.delete_run(run_id)
        assert register.run(named, accept_candidate=True)[2].promoted
    else:
        client.delete_run(run_id)
        number, promotion = registered(graph(), run_id=run_id)
        assert promotion.promoted
        assert client.get_model_version(named.tracking.model, number).run_id != run_id


def test_a_model_whose_experiment_was_renamed_is_registered(registered, named):
    with register.tracked(named.tracking) as run_id:
        pass
    client = mlflow.MlflowClient()
    plain = named.model_dump()
    plain["tracking"]["experiment"] = "renamed in params.yaml"
    number, promotion = registered(graph(0.02), type(named).model_validate(plain), run_id=run_id)
    assert promotion.promoted
    assert client.get_model_version(named.tracking.model, number).run_id == run_id
    client.rename_experiment(client.get_run(run_id).info.experiment_id, "renamed in MLflow")
    number, promotion = registered(graph(0.04), run_id=run_id)
    assert promotion.promoted
    assert client.get_model_version(named.tracking.model, number).run_id == run_id


def test_an_unreachable_store_is_not_an_empty_one(registered, named, monkeypatch):
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setenv("MLFLOW_HTTP_REQUEST_MAX_RETRIES", "0")
    with pytest.raises(MlflowException):
        registered(graph())
    monkeypatch.setattr(register.parameters, "load", lambda: named)
    with pytest.raises(PipelineError, match=r"MLflow at http://127\.0\.0\.1:9 cannot be used: ") as error:
        register.main(argparse.Namespace(candidate=False, or_later=False))
    assert "\n" not in str(error.value)


def test_a_model_needs_its_own_report(named, data, packaged):
    packaged(graph())
    report = json.loads(REPORT.read_text())
    REPORT.write_text(json.dumps(report | {"sha256": "0" * 64}))
    with pytest.raises(PipelineError, match="different runs"):
        register.run(named)
    for text in ("{}", "[]", "no"):
        REPORT.write_text(text)
        with pytest.raises(PipelineError, match=r"missing or broken .*dvc repro"):
            register.run(named)
