"""The release gate: what passes it, what doesn't, and what it says of a release that can't be compared."""

import json
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from ml import bundle, evaluate, gate, ingest, package, prepare, train
from ml.cli import exit_cleanly
from ml.params import Params
from tests.conftest import BLUE, RED, colour_graph, coloured, encode, manifest
from tests.ml.project import run
from tests.standins.github import GitHub

# From inside mlflow, torch's exporter and Fabric; none of it is ours to mend.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A working folder with prepared photos, blue and red ones and a few that are neither quite."""
    folder = tmp_path_factory.mktemp("project")
    for name, colour, other in (("blue", BLUE, RED), ("red", RED, BLUE)):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(150):
            seen = other if number % 12 == 0 else colour  # some that everybody gets wrong
            picture = encode(coloured(seen, seed=number * 2 + (name == "red")), "PNG")
            (folder / "photos" / name / f"{number}.png").write_bytes(picture)
    raw = folder / "data/raw"
    section = {"image_size": 32, "resize": "center_crop", "val_share": 0.1, "test_share": 0.3}
    ingest.run(ingest.Ingest(source=str(folder / "photos")), raw, folder / "data/cache")
    prepare.run(
        prepare.Prepare(**section, near_duplicate_bits=-1),
        raw,
        folder / "data/processed",
        folder / "reports/prepare",
    )
    return folder


@pytest.fixture
def project(prepared, params, monkeypatch):
    """The same folder, with a model of 92 % or so."""
    monkeypatch.chdir(prepared)
    for name in ("GITHUB_REPOSITORY", "GITHUB_TOKEN", "GITHUB_API_URL"):
        monkeypatch.delenv(name, raising=False)
    plain = params.model_dump()
    plain["package"] |= {"min_accuracy": 0.8}
    with Path("params.yaml").open("w") as file:
        YAML().dump(json.loads(Params.model_validate(plain).model_dump_json()), file)
    Path("models").mkdir(exist_ok=True)
    Path("reports/gate.json").unlink(missing_ok=True)
    write_model(Path("models/model.pt"))
    return prepared


def write_model(path, slope=0.05, graph=None, **changes):
    """A model that goes by colour; with a smaller slope it is less sure."""
    graph = graph or colour_graph(changes.get("image_size", 32))
    assert struct.pack("<f", 0.05) in graph or slope == 0.05
    graph = graph.replace(struct.pack("<f", 0.05), struct.pack("<f", slope))
    described = manifest(**{"version": f"slope {slope}"} | changes)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("archive/data.pkl", b"\x80\x02}.")
        archive.writestr("archive/extra/model.json", json.dumps(described))
        archive.writestr("archive/extra/model.onnx", graph)
    return path


@pytest.fixture
def judge(project, capsys):
    """Run the gate: exit code, standard output, the error's line, the report."""

    def judge(*arguments):
        code, line = 0, ""
        try:
            with exit_cleanly():
                gate.main(list(arguments))
        except SystemExit as error:
            code, line = 1, str(error.code)
        assert "\n" not in line
        report = json.loads(Path("reports/gate.json").read_text()) if gate.GATE_REPORT.exists() else None
        return code, capsys.readouterr().out, line, report

    return judge


@pytest.fixture
def github(tmp_path, monkeypatch):
    with GitHub(tmp_path / "github").serving() as github:
        for name, value in github.environment(None).items():
            monkeypatch.setenv(name, value)
        yield github


def test_the_first_release_needs_the_floor_alone(judge, github):
    code, output, _, report = judge()
    assert code == 0
    assert "no model is released yet" in output
    assert report["passed"]
    assert report["current"] is None
    assert 0.85 < report["candidate"]["test"]["accuracy"] < 0.97
    assert report["candidate"]["test"]["photos"] > 60
    github.store.add("v1", {"other.txt": b"x"})
    assert judge()[0] == 0


def test_the_same_and_a_little_worse_pass(judge, github):
    github.store.add("v1", {"model.pt": Path("models/model.pt").read_bytes()})
    write_model(Path("models/model.pt"), 0.0505)
    code, output, _, report = judge()
    assert code == 0
    assert "released: slope 0.05" in output
    assert "new: slope 0.0505" in output
    assert report["current"]["name"] == "v1"
    test, held = report["candidate"]["test"], report["current"]["test"]
    assert held["accuracy_low"] < held["accuracy"] == test["accuracy"]
    assert held["log_loss"] < test["log_loss"] < held["log_loss_high"]


def test_worse_than_the_interval_is_refused(judge, github, tmp_path):
    released = write_model(tmp_path / "released.pt", 0.02)
    github.store.add("v1", {"model.pt": released.read_bytes()})
    write_model(Path("models/model.pt"), 0.0005)  # of the same opinion, but never sure
    code, _, line, report = judge()
    assert code == 1
    assert line.startswith("error: refused: log loss")
    assert "the end of the released model's interval" in line
    assert not report["passed"]
    assert report["candidate"]["test"]["accuracy"] == report["current"]["test"]["accuracy"]
    write_model(Path("models/model.pt"), -0.05)  # of the other opinion
    code, _, line, report = judge()
    assert code == 1
    assert "is under package.min_accuracy" in line
    assert f"accuracy {report['candidate']['test']['accuracy']:.4f} is below" in line
    for current in (str(released), released.as_uri(), github.download_url("model.pt")):
        assert judge("--current", current)[2] == line
    write_model(Path("models/model.pt"), 0.02)
    assert judge("--current", str(released))[0] == 0


def test_photo_by_photo_smaller_differences_show(judge, tmp_path):
    """As right, and with a log loss inside the released one's interval; on nearly every photo it is worse."""
    released = write_model(tmp_path / "released.pt", 0.02)
    write_model(Path("models/model.pt"), 0.0085)
    code, output, line, report = judge("--current", str(released))
    assert report["candidate"]["test"]["log_loss"] < report["current"]["test"]["log_loss_high"]
    assert report["paired"]["accuracy"]["verdict"] == "no clear difference"
    assert report["paired"]["log_loss"]["verdict"] == "worse"
    assert code == 1
    assert line.startswith("error: refused: photo by photo, log loss: worse; the candidate's less the")
    assert "labels: no clear difference" in output


def test_the_order_of_classes_is_no_difference(judge, tmp_path):
    swapped = write_model(tmp_path / "swapped.pt", classes=("blue", "red"))  # its first output is red's
    _, _, _, report = judge("--current", str(swapped))
    assert report["current"]["test"]["accuracy"] == pytest.approx(1 - report["candidate"]["test"]["accuracy"])
    assert report["passed"]


def test_a_model_for_another_size_answers_the_same_photos(judge, tmp_path, project):
    other = write_model(tmp_path / "other.pt", image_size=48, resize="squash")
    code, _, _, report = judge("--current", str(other))
    assert code == 0
    assert report["current"]["test"]["accuracy"] == report["candidate"]["test"]["accuracy"]
    assert report["current"]["test"]["log_loss"] != report["candidate"]["test"]["log_loss"]
    (project / "data/raw").rename(project / "data/away")
    try:
        code, _, line, _ = judge("--current", str(other))
    finally:
        (project / "data/away").rename(project / "data/raw")
    assert code == 1
    assert "it takes photos of 48 pixels (squash)" in line
    splits = json.loads((project / "data/processed/splits.json").read_text())
    tested = next(photo["path"] for photo in splits["photos"] if photo["split"] == "test")
    photo = project / "data/raw" / tested
    kept = photo.read_bytes()
    photo.write_bytes(encode(coloured((9, 9, 9)), "PNG"))
    try:
        assert "another photo" in judge("--current", str(other))[2]
    finally:
        photo.write_bytes(kept)


def foreign(path):
    torch.save({"features.0.weight": torch.zeros(3)}, path)
    return path


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (
            lambda path: write_model(path, classes=("red", "green")),
            "it tells red, green, the photos are blue, red",
        ),
        (
            lambda path: write_model(path, graph=colour_graph(outputs=3), classes=("red", "blue", "c")),
            "it tells",
        ),
        (lambda path: write_model(path, graph=colour_graph(outputs=3)), "doesn't answer with a probability"),
        (lambda path: write_model(path, graph=b"\x08\x09 no graph"), "its twin doesn't run"),
        (foreign, r"without extra/model.json and extra/model.onnx"),
        (lambda path: path.write_bytes(b"hello") and path, "not a ZIP file"),
    ],
)
def test_what_can_not_be_compared_needs_a_persons_word(judge, tmp_path, make, said):
    current = make(tmp_path / "current.pt")
    code, _, line, report = judge("--current", str(current))
    assert code == 1
    assert said in line
    assert "--allow-incomparable" in line
    assert not report["passed"]
    code, output, _, report = judge("--current", str(current), "--allow-incomparable")
    assert code == 0
    assert said in output
    assert report["passed"]


def test_a_gate_that_can_not_ask_is_closed(judge, github, monkeypatch, tmp_path):
    github.store.add("v1", {"model.pt": Path("models/model.pt").read_bytes()})
    github.store.blob(next(iter(github.store.assets.values()))).write_bytes(b"x" * 2000)
    for arguments in ((), ("--allow-incomparable",)):
        code, _, line, _ = judge(*arguments)
        assert code == 1
        assert "model.pt" in line
    monkeypatch.setenv("GITHUB_REPOSITORY", "acme/elsewhere")
    assert "not found" in judge()[2]
    monkeypatch.delenv("GITHUB_REPOSITORY")
    assert "GITHUB_REPOSITORY is not set" in judge()[2]
    assert "can't be read" in judge("--current", str(tmp_path / "missing"))[2]
    monkeypatch.setenv("GITHUB_REPOSITORY", github.repository)
    github.store.delete(github.store.latest())
    Path("models/model.pt").write_bytes(b"hello")
    assert "models/model.pt can't answer these photos: not a ZIP" in judge()[2]
    Path("models/model.pt").unlink()
    assert "models/model.pt is missing" in judge()[2]


def test_from_photos_to_a_release_that_guards_the_next(tmp_path, make_photos, params, monkeypatch, github):
    """The whole pipeline, its release as a process, and the gate before the next one."""
    source = make_photos()
    monkeypatch.chdir(tmp_path)
    # By its full path: MLflow keeps a store by its address, and a relative one would be another test's too.
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with Path("params.yaml").open("w") as file:
        YAML().dump(json.loads(params.model_dump_json()), file)
    ingest.run(params.ingest.model_copy(update={"source": str(source)}))
    prepare.run(params.prepare)
    train.run(params)
    evaluate.run(params)
    package.run(params)
    gate.main([])
    code, _, error = run(tmp_path, "ml.publish", "--tag", "v1.0.0", **github.environment())
    assert code == 0, error
    names = {asset.name for asset in github.store.of(github.store.latest())}
    pictures = ("confusion_matrix", "roc", "reliability", "curves")  # and none that shows photos
    assert Path("reports/evaluate/worst_mistakes.png").exists()
    assert names == {"model.pt", "model.pt.sha256", "metrics.json", "MODEL_CARD.md"} | {
        f"{p}.png" for p in pictures
    }
    published = github.store.blob(github.store.find(None, "MODEL_CARD.md")).read_text("utf-8")
    assert published == bundle.read(Path("models/model.pt")).card
    gate.main([])
    report = json.loads(Path("reports/gate.json").read_text())
    assert report["passed"]
    assert report["current"]["name"] == "v1.0.0"
    assert report["current"]["sha256"] == report["candidate"]["sha256"]
    metrics = json.loads(github.store.blob(github.store.find(None, "metrics.json")).read_text())
    assert metrics["twin"]["accuracy"] == report["current"]["test"]["accuracy"]
    assert metrics["test_digest"] == report["test_digest"]
