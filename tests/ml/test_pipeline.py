"""All stages on a small data set, each check that can fail, and training runs that are killed."""

import argparse
import json
import re
from pathlib import Path

import mlflow
import numpy as np
import onnx
import pytest
import torch
from ruamel.yaml import YAML

from ml import params as parameters
from ml import set_params
from ml.data import ingest, prepare
from ml.data.dataset import Dataset
from ml.evaluation import evaluate
from ml.evaluation.ood import measure_scores
from ml.model import bundle
from ml.model import checkpoint as torch_checkpoint
from ml.model.answering import restore
from ml.model.errors import PipelineError
from ml.model.networks.simple_cnn import SimpleCNN
from ml.model.onnx_model import OnnxModel
from ml.model.reference import BOUNDS
from ml.packaging import package
from ml.packaging.perturbations import PERTURBATIONS
from ml.packaging.quantize import _SURE_FROM, _with_constant
from ml.params import Params
from ml.registry import register
from ml.training import train
from tests.conftest import encode
from tests.helpers.killed_training import killed_after_an_epoch

# Warnings from inside MLflow, torch's exporter and Fabric.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def change(params: Params, section: str, **values: object) -> Params:
    plain = params.model_dump()
    plain[section] |= values
    return Params.model_validate(plain)


@pytest.fixture
def prepared(make_photos, params, tmp_path, monkeypatch):
    """A working folder with the prepared photos in it."""
    source = make_photos()
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    ingest.run(params.ingest.model_copy(update={"source": str(source)}))
    prepare.run(params.prepare)
    return tmp_path


def test_from_photos_to_a_registered_model(prepared, params):
    assert [entry["epoch"] for entry in train.run(params)] == [1, 2, 3]
    assert not list(Path("models").glob("unfinished*"))
    few = evaluate.run(change(params, "evaluate", ood_photos=1))  # which leaves out a class
    assert few.known["distance"]["refused"] < 0.25
    evaluation = evaluate.run(params)
    assert evaluation.test["accuracy"] > 0.9
    for name in ("confusion_matrix", "roc", "reliability", "curves", "worst_mistakes"):
        assert Path(f"reports/evaluate/{name}.png").stat().st_size > 3000

    assert set(evaluation.baselines) == {"majority"}  # the body is not pretrained
    assert evaluation.calibration["ece"] == pytest.approx(evaluation.test["ece"])

    assert not Path("models/model.pt").exists()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(package, "measure_scores", lambda *_: measure_scores(0.95, np.zeros(60)))
        short = package.run(change(params, "package", max_mean_difference=0.0))
    assert unmet(short) == [
        "at most 25% of the test photos answered as unknown",
        "an ONNX model that answers as PyTorch does",
    ]
    assert short["precision"] == "float32"
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PERTURBATIONS, "mirrored", _inverted)
        short = package.run(params)
        assert unmet(short) == ["stable labels: mirrored"]
        assert json.loads(Path("reports/package/stability.json").read_text())["changes"]["mirrored"]["over"]
    candidate = bundle.read(Path("models/model.pt"))
    assert short["version"] == candidate.manifest.version
    assert candidate.manifest.version.endswith("-candidate")
    assert candidate.manifest.shortfalls[0].startswith("stable labels: mirrored: mirrored flips ")
    assert "**This model is only a candidate." in candidate.card
    assert not register.run(params)[2].promoted
    mlflow.MlflowClient().delete_registered_model("blue-red")  # params.tracking.model is auto

    packaged = package.run(params)
    assert unmet(packaged) == []
    model = bundle.read(Path("models/model.pt"))
    assert model.manifest.classes == ("blue", "red")
    assert model.manifest.reference.keys() == {"labels", *BOUNDS}  # all that the service compares
    for part in (
        f"# Model {packaged['version']}",
        "The classes are blue, red.",
        "## Stability",
        "| a wall |",
        "3 epochs",
    ):
        assert part in model.card
    assert model.manifest.metrics["accuracy"] == pytest.approx(packaged["twin"]["accuracy"], abs=1e-6)
    data = Dataset.load()
    rows = data.rows("test")
    answers = OnnxModel(model.onnx).run(data.images, rows)
    assert (answers["probabilities"].argmax(1) == data.labels[rows]).mean() > 0.9
    assert (
        torch.load("models/model.pt", weights_only=True)["state_dict"]["features.0.weight"].dtype
        == torch.half
    )

    client = mlflow.MlflowClient()
    name = "blue-red"
    versions = f"name='{name}'"
    assert not client.search_model_versions(versions)  # packaging does not touch the registry
    register.run(params)
    first = client.get_model_version_by_alias(name, "champion")
    assert first.tags["model_version"] == packaged["version"]
    assert first.tags["sha256"] == packaged["sha256"]
    run = client.get_run(first.run_id)
    assert run.data.params["train.arch"] == "simple_cnn"
    assert run.data.metrics["test_accuracy"] == pytest.approx(evaluation.test["accuracy"])
    assert {f"flips_{name}" for name in PERTURBATIONS} < set(run.data.metrics)
    stable = json.loads(Path("reports/package/stability.json").read_text())
    assert not any(flips["over"] for flips in stable["changes"].values())
    assert stable["changes"]["grey"]["limit"] is None  # only colour separates the classes
    assert len(client.get_metric_history(first.run_id, "val_loss")) == 3

    decision = json.loads(Path("reports/promotion.json").read_text())
    assert decision["promoted"]
    assert decision["reasons"] == ["there is no champion yet"]

    package.run(change(params, "package", half=False))  # the same network again is not better
    register.run(params)
    assert client.get_model_version_by_alias(name, "champion").version == first.version
    assert len(client.search_model_versions(versions)) == 2
    decision = json.loads(Path("reports/promotion.json").read_text())
    assert "stays: the new model is not clearly better" in decision["reasons"][0]

    # What was trained, and what was packaged, may have learned from photos that are now in the test split.
    prepare.run(params.prepare.model_copy(update={"test_share": 0.3}))
    for stage in (evaluate, package):
        with pytest.raises(PipelineError, match=r"trained on other photos.*: run `dvc repro`"):
            stage.run(params)
    with pytest.raises(PipelineError, match="packaged with test photos other than"):
        register.run(params)


def test_two_looks_answer_in_onnx_as_in_torch(prepared, params):
    """Whichever photos get a second look: none, some or all of them."""
    train.run(change(params, "train", second_look="simple_cnn"))
    evaluate.run(params)
    assert package.run(params)["precision"] == "int8"
    model, checkpoint = (module.read(Path("models/model.pt")) for module in (bundle, torch_checkpoint))
    assert model.manifest.arch == "simple_cnn+simple_cnn"
    assert "Photos get a second look" in model.card
    graph = onnx.load_from_string(model.onnx).graph
    (branches,) = [node.attribute for node in graph.node if node.op_type == "If"]
    inside = [node.op_type for branch in branches for node in branch.g.node]
    outside = [node.op_type for node in graph.node]
    assert inside.count("Conv") == outside.count("Conv") > 0  # each network's
    assert "NonZero" not in outside
    data, torch_model = Dataset.load(), restore(checkpoint)
    rows = data.rows("test")
    pixels = torch.from_numpy(data.images[rows])
    with torch.inference_mode():
        network = torch_model.network
        features = network.embed(torch_model.normalize(pixels.float()))
        surest = network.head(features).softmax(1).amax(1)
        for sure_from in (0.0, surest.median().item(), torch.inf):
            network.sure_from.fill_(sure_from)
            expected = torch_model(pixels)[0].numpy()
            answers = OnnxModel(_with_constant(model.onnx, _SURE_FROM, sure_from)).run(data.images, rows)
            assert np.abs(answers["probabilities"] - expected).max() < 0.05
            assert answers["evidence"].shape[:2] == (len(rows), 2)
            if sure_from == 0:
                once = answers
    twice = answers
    assert np.array_equal(once["known"], twice["known"])  # they are the first network's
    assert np.abs(once["probabilities"] - twice["probabilities"]).max() > 0.001


def test_without_mlflow_nothing_is_lost(prepared, params, monkeypatch, capsys):
    """MLflow can't be reached in training and evaluation, and is there when the model is registered."""
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    train.run(params)
    evaluation = evaluate.run(params)
    package.run(params)
    monkeypatch.setattr(register.parameters, "load", lambda: params)
    register.main(argparse.Namespace(or_later=True, candidate=False))
    warnings = capsys.readouterr().err
    lines = [line for line in warnings.splitlines() if line.startswith("warning: ")]
    assert len(lines) == 3  # before and after the training, and instead of the registration
    assert all("MLflow at http://127.0.0.1:9 cannot be used: " in line for line in lines)
    assert "Traceback" not in warnings

    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{prepared}/mlflow.db")
    register.main(argparse.Namespace(or_later=True, candidate=False))
    client = mlflow.MlflowClient()
    run = client.get_run(client.get_model_version_by_alias("blue-red", "champion").run_id)
    assert run.info.status == "FINISHED"
    assert run.data.params["train.arch"] == "simple_cnn"
    assert run.data.metrics["test_accuracy"] == pytest.approx(evaluation.test["accuracy"])
    assert len(client.get_metric_history(run.info.run_id, "val_loss")) == 3
    files = {file.path for file in client.list_artifacts(run.info.run_id)}
    folder = f"model-{bundle.read(Path('models/model.pt')).sha256[:12]}"
    assert {"prepare", "evaluate", "package", folder} <= files


def test_a_training_whose_files_cannot_be_stored_is_complete(prepared, params, monkeypatch, capsys):
    store = f"sqlite:///{prepared}/mlflow.db"
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    (prepared / "no folder").touch()
    mlflow.MlflowClient(store).create_experiment(params.tracking.experiment, f"{prepared}/no folder")
    assert len(train.run(params)) == 3
    (warning,) = [line for line in capsys.readouterr().err.splitlines() if line.startswith("warning: ")]
    assert "models/checkpoint.pt is complete, and `python -m ml register` logs it later" in warning


def unmet(packaged):
    return [condition["name"] for condition in packaged["conditions"] if not condition["met"]]


def test_a_candidate_says_what_to_do(prepared, params, capsys):
    train.run(change(params, "recipes", simple_cnn=params.recipe.model_dump() | {"epochs": 1}))
    evaluate.run(params)
    with Path("params.yaml").open("w") as file:
        YAML().dump(json.loads(change(params, "package", min_accuracy=1.0).model_dump_json()), file)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(PERTURBATIONS, "mirrored", _inverted)
        package.main(argparse.Namespace())
        output = capsys.readouterr().out
        assert "models/model.pt is only a candidate." in output
        for step in (
            "make train SOURCE=",
            "python -m ml register --candidate",
            "python -m release publish --candidate --tag",
        ):
            assert step in output
        remedies = re.search(r"python -m ml params (.*) && dvc repro", output)[1].split()
        assert any(remedy.startswith("stability.max_flips.mirrored=") for remedy in remedies)
        set_params.assign(dict(remedy.split("=") for remedy in remedies), Path("params.yaml"))
        again = package.run(parameters.load())
    assert set(unmet(again)) <= {"better than always answering blue", "probabilities that roughly agree with "
                                 "the accuracy"}  # which no parameter changes  # fmt: skip


def _inverted(photo, number):
    return encode(255 - np.asarray(photo), "BMP")


@pytest.mark.parametrize("pretrained", [False, True])
def test_a_killed_run_resumes_to_the_same_result(prepared, params, monkeypatch, pretrained):
    if pretrained:  # the head is fitted first, and the initial weights are needed at the end
        monkeypatch.setattr(SimpleCNN, "load_pretrained", lambda self: True)
        recipe = params.recipe.model_dump() | {"fit_head_first": True, "finetuned_share": [0.4]}
        recipe |= {"runs": 2}
        params = change(params, "recipes", simple_cnn=recipe)
    unbroken = train.run(params)
    weights = torch.load("models/checkpoint.pt", weights_only=True)["state_dict"]
    for epoch in (1, 2):
        with killed_after_an_epoch():
            train.run(params)
        (state,) = Path("models").glob("unfinished*.pt")
        assert torch.load(state, weights_only=True)["progress"]["epoch"] == epoch
    resumed = train.run(params)
    assert len(resumed) == 3 * params.recipe.runs
    assert not list(Path("models").glob("unfinished*"))
    assert resumed == unbroken
    again = torch.load("models/checkpoint.pt", weights_only=True)["state_dict"]
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_runs_without_pretrained_weights_have_no_mean(prepared, params):
    params = change(params, "recipes", simple_cnn=params.recipe.model_dump() | {"runs": 2})
    with pytest.raises(PipelineError, match="no pretrained weights"):
        train.run(params)
