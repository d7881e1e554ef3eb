"""The release gate: which models pass, which are rejected, and releases that can't be compared."""

import json
import struct
import zipfile
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from ml import cli
from ml.data import ingest, prepare
from ml.evaluation import baselines, evaluate
from ml.model import bundle
from ml.packaging import package
from ml.params import Params
from ml.training import train
from release import gate
from release.__main__ import COMMANDS
from scripts.standins.github import REPOSITORY, GitHub
from tests.conftest import BLUE, RED, colour_graph, coloured, encode, manifest
from tests.helpers.project import run

# Raised inside mlflow, torch's exporter and Fabric.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


@pytest.fixture(scope="module")
def prepared(tmp_path_factory) -> Path:
    """A working folder with prepared photos of two colours, some of them in the wrong class."""
    folder = tmp_path_factory.mktemp("project")
    for name, colour, other in (("blue", BLUE, RED), ("red", RED, BLUE)):
        (folder / "photos" / name).mkdir(parents=True)
        for number in range(150):
            shown = other if number % 12 == 0 else colour  # every model gets these wrong
            picture = encode(coloured(shown, seed=number * 2 + (name == "red")), "PNG")
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
    """The same folder, with a model whose accuracy is about 92 %."""
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
    """Write a model that classifies by colour; a smaller slope makes it less certain."""
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
    """Run the gate; return exit code, standard output, the error's line and the report."""

    def judge(*arguments):
        code, line = 0, ""
        try:
            cli.run("release", "", COMMANDS, ["gate", *arguments])
        except SystemExit as error:
            code, line = 1, str(error.code)
        assert "\n" not in line
        report = json.loads(Path("reports/gate.json").read_text()) if gate.GATE_REPORT.exists() else None
        return code, capsys.readouterr().out, line, report

    return judge


@pytest.fixture
def github(monkeypatch):
    with GitHub().serving() as github:
        for name, value in github.environment(None).items():
            monkeypatch.setenv(name, value)
        yield github


def test_the_first_release_needs_only_the_minimum_accuracy(judge, github):
    code, output, _, report = judge()
    assert code == 0
    assert "no model is released yet" in output
    assert report["passed"]
    assert report["current"] is None
    assert 0.85 < report["candidate"]["test"]["accuracy"] < 0.97
    assert report["candidate"]["test"]["photos"] > 60
    github.store.add("v1", {"other.txt": b"x"})
    assert judge()[0] == 0


def test_a_release_without_a_model_is_passed_over(judge, github, tmp_path):
    """Otherwise, a release of code or notes would let any model pass."""
    github.store.add("v1", {"model.pt": write_model(tmp_path / "released.pt", 0.02).read_bytes()})
    github.store.add("v2-rc.1", {"model.pt": b"x"}, prerelease=True)
    github.store.add("v2", {"notes.txt": b"x"})
    write_model(Path("models/model.pt"), 0.0005)
    code, _, _, report = judge()
    assert (code, report["current"]["name"]) == (1, "v1")


def test_a_model_that_gets_its_examples_wrong_is_rejected(judge, github):
    path = write_model(Path("models/model.pt"))
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/extra/examples/0.0.jpg", encode(coloured(RED)))
    assert judge()[0] == 0
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("archive/extra/examples/1.0.jpg", encode(coloured(RED)))
    code, _, line, report = judge()
    assert code == 1
    assert line == "error: rejected: the example photo of blue is classified as red"
    assert report["reasons"] == ["the example photo of blue is classified as red"]


def test_a_candidate_passes_only_if_it_is_forced(judge, github, monkeypatch):
    write_model(Path("models/model.pt"), shortfalls=["not worse than a linear probe: worse"])
    code, _, line, report = judge()
    assert code == 1
    assert "it is only a candidate: not worse than a linear probe: worse; to release it" in line
    assert not report["passed"]
    assert judge("--candidate")[0] == 0
    params = Path("params.yaml")
    params.write_text(params.read_text().replace("min_accuracy: 0.8", "min_accuracy: 0.99"))
    write_model(Path("models/model.pt"))
    code, _, line, _ = judge()
    assert code == 1
    assert (
        "is below package.min_accuracy, 0.99; to release it nevertheless: python -m release gate --candidate"
        in line
    )
    assert judge("--candidate")[0] == 0
    monkeypatch.setattr(baselines, "MIN_TEST_PHOTOS", 1000)  # packaging has judged by cross-validation
    assert judge()[0] == 0


def test_an_equal_and_a_slightly_worse_model_pass(judge, github):
    github.store.add("v1", {"model.pt": Path("models/model.pt").read_bytes()})
    write_model(Path("models/model.pt"), 0.0505)
    code, output, _, report = judge()
    assert code == 0
    assert "released: slope 0.05" in output
    assert "new: slope 0.0505" in output
    assert "balanced accuracy (interval)" in output
    assert report["current"]["name"] == "v1"
    test, latest = report["candidate"]["test"], report["current"]["test"]
    assert latest["accuracy_low"] < latest["accuracy"] == test["accuracy"]
    assert latest["log_loss"] < test["log_loss"] < latest["log_loss_high"]


def test_a_model_worse_than_the_interval_is_rejected(judge, github, tmp_path):
    released = write_model(tmp_path / "released.pt", 0.02)
    github.store.add("v1", {"model.pt": released.read_bytes()})
    write_model(Path("models/model.pt"), 0.0005)  # the same labels, but never certain
    code, _, line, report = judge()
    assert code == 1
    assert line.startswith("error: rejected: log loss")
    assert "the end of the released model's interval" in line
    assert not report["passed"]
    assert report["candidate"]["test"]["accuracy"] == report["current"]["test"]["accuracy"]
    write_model(Path("models/model.pt"), -0.05)  # the opposite labels
    code, _, line, report = judge()
    assert code == 1
    assert "is below package.min_accuracy" in line
    assert f"accuracy {report['candidate']['test']['accuracy']:.4f} is below" in line
    for current in (str(released), github.download_url("model.pt")):
        assert judge("--compare-with", current)[2] == line
    write_model(Path("models/model.pt"), 0.02)
    assert judge("--compare-with", str(released))[0] == 0


def test_the_paired_comparison_detects_smaller_differences(judge, tmp_path):
    """The labels are equal and the log loss is inside the interval, but worse on nearly every photo."""
    released = write_model(tmp_path / "released.pt", 0.02)
    write_model(Path("models/model.pt"), 0.0085)
    code, output, line, report = judge("--compare-with", str(released))
    assert report["candidate"]["test"]["log_loss"] < report["current"]["test"]["log_loss_high"]
    assert report["paired"]["accuracy"]["verdict"] == "no clear difference"
    assert report["paired"]["log_loss"]["verdict"] == "worse"
    assert code == 1
    assert line.startswith("error: rejected: photo by photo, log loss: worse; new minus other")
    assert "labels: no clear difference" in output


def test_the_order_of_the_classes_does_not_matter(judge, tmp_path):
    swapped = write_model(tmp_path / "swapped.pt", classes=("blue", "red"))  # its first output is red's
    _, _, _, report = judge("--compare-with", str(swapped))
    assert report["current"]["test"]["accuracy"] == pytest.approx(1 - report["candidate"]["test"]["accuracy"])
    assert report["passed"]


def test_a_model_for_another_image_size_is_compared_on_the_same_photos(judge, tmp_path, project):
    other = write_model(tmp_path / "other.pt", image_size=48, resize="squash")
    code, _, _, report = judge("--compare-with", str(other))
    assert code == 0
    assert report["current"]["test"]["accuracy"] == report["candidate"]["test"]["accuracy"]
    assert report["current"]["test"]["log_loss"] != report["candidate"]["test"]["log_loss"]
    (project / "data/raw").rename(project / "data/away")
    try:
        code, _, line, _ = judge("--compare-with", str(other))
    finally:
        (project / "data/away").rename(project / "data/raw")
    assert code == 1
    assert "it needs photos of 48 pixels (squash)" in line
    splits = json.loads((project / "data/processed/splits.json").read_text())
    tested = next(photo["path"] for photo in splits["photos"] if photo["split"] == "test")
    photo = project / "data/raw" / tested
    kept = photo.read_bytes()
    photo.write_bytes(encode(coloured((9, 9, 9)), "PNG"))
    try:
        assert "it has changed since it was prepared" in judge("--compare-with", str(other))[2]
    finally:
        photo.write_bytes(kept)


def foreign(path):
    torch.save({"features.0.weight": torch.zeros(3)}, path)
    return path


@pytest.mark.parametrize(
    ("make", "expected"),
    [
        (
            lambda path: write_model(path, classes=("red", "green")),
            "its classes differ (only in the model: green; only in the photos: blue)",
        ),
        (
            lambda path: write_model(path, graph=colour_graph(outputs=3), classes=("red", "blue", "c")),
            "its classes differ",
        ),
        (
            lambda path: write_model(path, graph=colour_graph(outputs=3)),
            "does not return one probability per class",
        ),
        (lambda path: write_model(path, graph=b"\x08\x09 no graph"), "its ONNX model does not run"),
        (foreign, r"without extra/model.json and extra/model.onnx"),
        (lambda path: path.write_bytes(b"hello") and path, "not a ZIP file"),
    ],
)
def test_an_incomparable_release_needs_the_option(judge, tmp_path, make, expected):
    current = make(tmp_path / "current.pt")
    code, _, line, report = judge("--compare-with", str(current))
    assert code == 1
    assert expected in line
    assert "--allow-incomparable" in line
    assert not report["passed"]
    code, output, _, report = judge("--compare-with", str(current), "--allow-incomparable")
    assert code == 0
    assert expected in output
    assert report["passed"]


def test_the_gate_fails_if_the_latest_release_is_unknown(judge, github, monkeypatch, tmp_path):
    github.store.add("v1", {"model.pt": Path("models/model.pt").read_bytes()})
    asset = github.store.find(github.store.latest(), "model.pt")
    monkeypatch.setattr(type(asset), "digest", f"sha256:{'0' * 64}")
    for arguments in ((), ("--allow-incomparable",)):
        code, _, line, _ = judge(*arguments)
        assert code == 1
        assert "model.pt" in line
    monkeypatch.setenv("GITHUB_REPOSITORY", "acme/elsewhere")
    assert "not found" in judge()[2]
    monkeypatch.delenv("GITHUB_REPOSITORY")
    assert "GITHUB_REPOSITORY is not set" in judge()[2]
    assert "can't be read" in judge("--compare-with", str(tmp_path / "missing"))[2]
    monkeypatch.setenv("GITHUB_REPOSITORY", REPOSITORY)
    github.store.delete(github.store.latest())
    Path("models/model.pt").write_bytes(b"hello")
    assert "models/model.pt can't classify these photos: not a ZIP" in judge()[2]
    Path("models/model.pt").unlink()
    assert "models/model.pt is missing" in judge()[2]


def test_from_photos_to_a_release_that_the_gate_uses(tmp_path, make_photos, params, monkeypatch, github):
    """Run the whole pipeline, publish in a process, and run the gate for the next release."""
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
    assert cli.run("release", "", COMMANDS, ["gate"]) == 0
    code, _, error = run(tmp_path, "release", "publish", "--tag", "v1.0.0", **github.environment())
    assert code == 0, error
    names = {asset.name for asset in github.store.of(github.store.latest())}
    plots = ("confusion_matrix", "roc", "reliability", "curves")  # and none that shows photos
    assert Path("reports/evaluate/worst_mistakes.png").exists()
    assert names == {"model.pt", "model.pt.sha256", "metrics.json", "MODEL_CARD.md"} | {
        f"{p}.png" for p in plots
    }
    release = github.store.latest()
    published = github.store.find(release, "MODEL_CARD.md").data.decode()
    assert published == bundle.read(Path("models/model.pt")).card
    assert cli.run("release", "", COMMANDS, ["gate"]) == 0
    report = json.loads(Path("reports/gate.json").read_text())
    assert report["passed"]
    assert report["current"]["name"] == "v1.0.0"
    assert report["current"]["sha256"] == report["candidate"]["sha256"]
    metrics = json.loads(github.store.find(release, "metrics.json").data)
    assert metrics["twin"]["accuracy"] == report["current"]["test"]["accuracy"]
    assert metrics["test_digest"] == report["test_digest"]
