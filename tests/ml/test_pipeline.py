"""The stages one after another on a small set, each gate, and a training run that is killed and goes on."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pytest
import torch

from ml import bundle, evaluate, ingest, package, prepare, train
from ml.dataset import Dataset
from ml.errors import PipelineError
from ml.networks import SimpleCNN
from ml.packaging import changes
from ml.params import Params
from ml.training import loop
from ml.twin import answers
from tests.conftest import encode

ROOT = Path(__file__).parents[2]

# From inside mlflow, torch's exporter and Fabric; none of it is ours to mend.
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


def test_photos_in_model_out(prepared, params):
    report = train.run(params)
    assert [entry["epoch"] for entry in report.history] == [1, 2, 3]
    assert not list(Path("models").glob("unfinished*"))
    evaluation = evaluate.run(params)
    assert evaluation.test["accuracy"] > 0.9
    for name in ("confusion_matrix", "roc", "reliability", "curves", "worst_mistakes"):
        assert Path(f"reports/evaluate/{name}.png").stat().st_size > 3000

    with pytest.raises(PipelineError, match="min_accuracy"):
        package.run(change(params, "package", min_accuracy=1.0).model_copy(), evaluation=_worse(0.99))
    with pytest.raises(PipelineError, match="differ"):
        package.run(change(params, "package", max_mean_difference=0.0))
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(changes.CHANGES, "mirrored", _inverted)
        with pytest.raises(PipelineError, match=r"labels are not stable: mirrored flips \d+"):
            package.run(params)
        assert json.loads(Path("reports/package/stability.json").read_text())["changes"]["mirrored"]["over"]
    assert not Path("models/model.pt").exists()

    packaged = package.run(params)
    read = bundle.read(Path("models/model.pt"))
    assert read.manifest.classes == ("blue", "red")
    for part in (
        f"# Model {packaged.version}",
        "Tells blue from red",
        "## Stability",
        "| a wall |",
        "3 epochs",
    ):
        assert part in read.card
    assert read.manifest.metrics["accuracy"] == pytest.approx(packaged.twin["accuracy"], abs=1e-6)
    data = Dataset.load()
    rows = data.rows("test")
    assert (answers(read.onnx, data, rows).argmax(1) == data.labels[rows]).mean() > 0.9
    assert (
        torch.load("models/model.pt", weights_only=True)["state_dict"]["features.0.weight"].dtype
        == torch.half
    )

    client = mlflow.MlflowClient()
    first = client.get_model_version_by_alias(params.tracking.model, "champion")
    assert first.tags["model_version"] == packaged.version
    assert first.tags["sha256"] == packaged.sha256
    run = client.get_run(first.run_id)
    assert run.data.params["train.arch"] == "simple_cnn"
    assert run.data.metrics["test_accuracy"] == pytest.approx(evaluation.test["accuracy"])
    assert {f"flips_{name}" for name in changes.CHANGES} < set(run.data.metrics)
    stable = json.loads(Path("reports/package/stability.json").read_text())
    assert not any(found["over"] for found in stable["changes"].values())
    assert stable["changes"]["grey"]["limit"] is None  # colour is all that tells them
    assert len(client.get_metric_history(first.run_id, "val_loss")) == 3

    for stage in ("evaluate", "package"):
        decided = json.loads(Path(f"reports/{stage}/promotion.json").read_text())
        assert decided["promoted"]
        assert decided["reasons"] == ["there is no champion yet"]

    package.run(params)  # the same model again doesn't beat the holder
    assert client.get_model_version_by_alias(params.tracking.model, "champion").version == first.version
    assert len(client.search_model_versions(f"name='{params.tracking.model}'")) == 2
    decided = json.loads(Path("reports/package/promotion.json").read_text())
    assert "stays: nothing shows clearly that the candidate is better" in decided["reasons"][0]


def _inverted(photo, number):
    return encode(255 - np.asarray(photo), "BMP")


def _worse(accuracy: float) -> Path:
    found = json.loads(Path("reports/evaluate/metrics.json").read_text())
    found["test"]["accuracy"] = accuracy
    path = Path("worse.json")
    path.write_text(json.dumps(found))
    return path


class KilledError(Exception):
    """Stands for a kill at the end of an epoch."""


@pytest.mark.parametrize("pretrained", [False, True])
def test_a_killed_run_goes_on_to_the_same_result(prepared, params, monkeypatch, pretrained):
    if pretrained:  # then the head is fitted first, and the weights before the first step count to the end
        monkeypatch.setattr(SimpleCNN, "load_pretrained", lambda self: True)
        recipe = params.recipe.model_dump() | {"fit_head_first": True, "finetuned_share": [0.4]}
        recipe |= {"refit_l2": [], "runs": 2}
        params = change(params, "recipes", simple_cnn=recipe)
    unbroken = train.run(params)
    weights = torch.load("models/checkpoint.pt", weights_only=True)["state_dict"]
    record = loop.Loop._record

    def record_and_die(self, figures):
        record(self, figures)
        raise KilledError

    for epoch in (1, 2):
        monkeypatch.setattr(loop.Loop, "_record", record_and_die)
        with pytest.raises(KilledError):
            train.run(params)
        (state,) = Path("models").glob("unfinished*.pt")
        assert torch.load(state, weights_only=True)["progress"]["epoch"] == epoch
    monkeypatch.setattr(loop.Loop, "_record", record)
    resumed = train.run(params)
    assert len(resumed.history) == 3 * params.recipe.runs
    assert not list(Path("models").glob("unfinished*"))
    assert resumed.history == unbroken.history
    again = torch.load("models/checkpoint.pt", weights_only=True)["state_dict"]
    assert all(torch.equal(weights[name], again[name]) for name in weights)


def test_runs_from_chance_have_no_mean(prepared, params):
    params = change(params, "recipes", simple_cnn=params.recipe.model_dump() | {"runs": 2})
    with pytest.raises(PipelineError, match="starts from chance"):
        train.run(params)


def test_two_processes_train_as_one(prepared, params):
    shutil.copy(ROOT / "params.yaml", "params.yaml")
    one = train.run(params)
    script = (
        "import sys; from pathlib import Path; from ml import train; from ml.params import Params\n"
        "if __name__ == '__main__':\n"
        "    train.run(Params.model_validate_json(Path('params.json').read_text()))\n"
    )
    Path("params.json").write_text(params.model_dump_json())
    Path("go.py").write_text(script)
    subprocess.run(
        [
            sys.executable,
            "-m",
            "torch.distributed.run",
            "--nproc-per-node",
            "2",
            "--master-port",
            "29611",
            "go.py",
        ],
        check=True,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
        capture_output=True,
        timeout=1500,
    )
    two = json.loads(Path("models/history.json").read_text())["history"]
    assert len(two) == len(one.history)
    assert two[-1]["val_accuracy"] == pytest.approx(one.history[-1]["val_accuracy"], abs=0.1)
    assert np.isfinite(two[-1]["val_loss"])
