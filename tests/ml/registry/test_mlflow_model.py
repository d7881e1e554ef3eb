"""A registered version works from the registry alone, in a process that knows nothing of this project."""

import base64
import json
import os
import subprocess
import sys
from pathlib import Path

import mlflow
import numpy as np
import pandas as pd
import pytest
import requests

from ml.model import bundle
from ml.registry import mlflow_model
from ml.registry.photo_classifier import PhotoClassifier
from scripts.common.process import free_port
from tests.conftest import BLUE, RED, coloured, encode
from tests.helpers.waiting import until

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
]
LOAD = """
import json, sys
import mlflow, pandas as pd
photos = [open(path, "rb").read() for path in sys.argv[2:]]
answers = mlflow.pyfunc.load_model(sys.argv[1]).predict(pd.DataFrame({"image": photos}))
modules = {name.partition(".")[0] for name in sys.modules}
print(json.dumps([answers.to_dict("records"), "torch" in modules, sys.modules["ml.model"].__file__]))
"""


@pytest.fixture
def stored(make_model, tmp_path) -> Path:
    mlflow_model.write(make_model(known={"method": "distance", "threshold": 0.5}), tmp_path / "stored")
    return tmp_path / "stored"


@pytest.fixture
def photos(tmp_path) -> list[Path]:
    contents = [encode(coloured(RED), "JPEG"), b"no photo", encode(coloured(BLUE), "PNG")]
    paths = [tmp_path / f"{number}.jpg" for number in range(3)]
    for path, content in zip(paths, contents, strict=True):
        path.write_bytes(content)
    return paths


def environment() -> dict[str, str]:
    programs = Path(sys.executable).parent
    return {"PATH": f"{programs}{os.pathsep}{os.environ['PATH']}", "HOME": os.environ.get("HOME", "/")}


def check(answers):
    first, broken, last = answers
    assert (first["label"], last["label"]) == ("red", "blue")
    assert first["error"] == ""
    assert first["probabilities"]["red"] > 0.9
    assert sum(first["probabilities"].values()) == pytest.approx(1)
    assert (broken["label"], broken["probabilities"], broken["known"]) == ("", {}, None)
    assert "not a JPEG" in broken["error"]


def test_it_is_loaded_outside_the_project(stored, photos, tmp_path):
    arguments = [sys.executable, "-c", LOAD, str(stored), *map(str, photos)]
    done = subprocess.run(
        arguments, cwd=tmp_path, env=environment(), capture_output=True, text=True, check=True
    )
    answers, has_torch, code = json.loads(done.stdout)
    check(answers)
    assert not has_torch
    assert Path(code).is_relative_to(stored)


def test_it_describes_itself(stored):
    described = mlflow.models.Model.load(stored)
    assert described.signature.inputs.input_names() == ["image"]
    assert described.signature.outputs.input_names() == ["label", "probabilities", "known", "error"]
    assert described.load_input_example(stored)["image"][0].startswith(b"\xff\xd8")
    packages = (stored / "requirements.txt").read_text().split()
    assert all("==" in package for package in packages)
    assert not any(package.startswith("torch") for package in packages)


def test_mlflow_serves_it(stored, photos, tmp_path):
    port = free_port()
    command = ["mlflow", "models", "serve", "-m", str(stored), "--env-manager", "local"]
    with (tmp_path / "log").open("w") as log:
        server = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port)],
            cwd=tmp_path, env=environment(), stdout=log, stderr=log, start_new_session=True,
        )  # fmt: skip
    url = f"http://127.0.0.1:{port}"
    try:
        until(lambda: server.poll() is not None or answers(f"{url}/health"))
        rows = [[base64.b64encode(path.read_bytes()).decode()] for path in photos]
        body = {"dataframe_split": {"columns": ["image"], "data": rows}}
        check(requests.post(f"{url}/invocations", json=body, timeout=60).json()["predictions"])
    finally:
        os.killpg(server.pid, 15)
        server.wait()


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=5).ok
    except requests.ConnectionError:
        return False


def test_a_photo_without_probabilities_costs_no_other_its_answer(make_model, photos, monkeypatch):
    classifier = PhotoClassifier(bundle.read(make_model()))
    outputs = {"probabilities": np.array([[0.9, 0.1], [np.nan, np.nan]])}
    monkeypatch.setattr(classifier._onnx_model, "run", lambda _: outputs)
    answers = classifier.predict(pd.DataFrame({"image": [photos[0].read_bytes(), photos[2].read_bytes()]}))
    assert answers["error"].tolist() == ["", "the network returns no probabilities for this photo"]
