"""A labelled batch against the service itself, and against stand-ins that fail as services do."""

import csv
import itertools
import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import mlflow
import pytest
from mlflow import MlflowClient

from ml.tracking import registry
from tests.app.service import ROOT, running
from tests.app.test_predict import RED_JPEG
from tests.conftest import BLUE, RED, coloured, encode
from tests.endpoint import PREDICTION, Reply, Sent, endpoint
from tests.test_traffic import metric
from tests.waiting import HANG_S

# From inside mlflow; none of it is ours to mend.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

SCRIPT = ROOT / "scripts" / "collect_predictions.py"
MODEL = {"version": "v1", "sha256": "a" * 64, "classes": ["cat", "dog"], "arch": "simple_cnn"}


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """Six photos a class, of which one has a wrong label; two more that are no photos; a file in no class."""
    for name, colour in (("red", RED), ("blue", BLUE)):
        (tmp_path / "set" / name).mkdir(parents=True)
        for number in range(6):
            shown = BLUE if (name, number) == ("red", 3) else colour
            (tmp_path / "set" / name / f"{number}.jpg").write_bytes(encode(coloured(shown, seed=number)))
    (tmp_path / "set" / "red" / "text.jpg").write_text("no photo")
    (tmp_path / "set" / "blue" / "cut.jpg").write_bytes(RED_JPEG[: len(RED_JPEG) // 2])
    (tmp_path / "set" / "README").write_text("what these are")
    return tmp_path / "set"


def collect(
    url: str, data: object, out: Path, *arguments: object, code: int = 0, **env: str
) -> tuple[str, dict[str, Any]]:
    """What it prints, and what it writes."""
    command = [sys.executable, SCRIPT, url, "--data", data, "--out", out / "batch.json", *arguments]
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=HANG_S, cwd=out, env=os.environ | env
    )
    assert done.returncode == code, done.stdout + done.stderr
    path = out / "batch.json"
    written = json.loads(path.read_text()) if path.exists() else {}
    path.unlink(missing_ok=True)
    return done.stdout + done.stderr, written


def test_batch_on_the_service(
    batch: Path, make_model: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = {"MODEL_URL": make_model().as_uri(), "API_KEYS": "the-key", "LOG_LEVEL": "error"}
    store = f"sqlite:///{tmp_path / 'mlflow.db'}"
    with running(**settings) as service:
        service.wait()
        url = f"http://127.0.0.1:{service.port}"
        registered(store, service.get("/model")[1]["sha256"])
        told, written = collect(
            f"{url}/?token=x", batch, tmp_path, API_KEY="the-key", MLFLOW_TRACKING_URI=store
        )
        feedback = metric(service.port, "feedback_total")

        refused, nothing = collect(url, batch, tmp_path, "--no-mlflow", code=1, API_KEY="another")
        assert "error: " in refused
        assert "answered 401" in refused
        assert not nothing
    assert "left out: 1 files" in told
    assert "12 of 14 photos answered; 2 refused" in told
    assert "accuracy 0.9167 (95 % interval 0.6461 to 0.9851)" in told  # Wilson's, of 11 in 12
    assert "accuracy 0.7857 where every photo without a prediction counts as wrong" in told
    assert "     red        5        1" in told
    assert "    blue        0        6" in told
    assert "refused: red/text.jpg: status 415 " in told
    assert "refused: blue/cut.jpg: status 422 " in told
    assert "feedback: 12 true labels sent, 0 not taken" in told
    assert feedback == {
        f'feedback_total{{actual="{actual}",predicted="{predicted}"}}': count
        for actual, predicted, count in (("red", "red", 5), ("red", "blue", 1), ("blue", "blue", 6))
    }
    assert written["url"] == url
    assert written["model"]["version"] == "test-1"
    assert written["confusion_matrix"]["true_by_row"] == [[5, 1], [0, 6]]
    rows = {row["path"]: row for row in written["photos"]}
    assert (rows["red/3.jpg"]["actual"], rows["red/3.jpg"]["predicted"]) == ("red", "blue")
    assert rows["red/1.jpg"]["probabilities"]["red"] > 0.9
    assert rows["red/1.jpg"]["request_id"]
    assert rows["red/1.jpg"]["latency_ms"] > 0
    assert rows["red/text.jpg"]["status"] == 415
    table = {row["path"]: row for row in csv.DictReader((tmp_path / "batch.csv").open())}
    assert set(table) == set(rows)
    assert float(table["red/1.jpg"]["p_red"]) == rows["red/1.jpg"]["probabilities"]["red"]
    linked(store, written)
    monkeypatch.setenv("MLFLOW_REGISTRY_URI", store)
    by_weights = registry.find("cats-vs-dogs", "test-1", "f" * 64)
    assert by_weights is not None
    assert int(by_weights.version) == 3
    assert registry.find("cats-vs-dogs", "another", "f" * 64) is None


def registered(store: str, sha256: str) -> None:
    """Three versions of the model, of which the second is the very file."""
    client = MlflowClient(store, store)
    client.create_registered_model("cats-vs-dogs")
    for digest in ("0" * 64, sha256, "1" * 64):
        tags = {"model_version": "test-1", "sha256": digest}
        client.create_model_version("cats-vs-dogs", "file:///nowhere", "some-run", tags=tags)


def linked(store: str, written: dict[str, Any]) -> None:
    """The run tells what was written, and it and the registered version of each other."""
    client = MlflowClient(store, store)
    experiment = client.get_experiment_by_name("cats-vs-dogs")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics["live_accuracy"] == pytest.approx(11 / 12)
    assert run.data.metrics["live_refused"] == 2
    assert run.data.tags["url"] == written["url"]
    assert run.data.tags["sha256"] == written["model"]["sha256"]
    assert run.data.tags["registered_version"] == "cats-vs-dogs/2"
    assert run.data.tags["training_run_id"] == "some-run"
    version = client.get_model_version("cats-vs-dogs", "2")
    assert version.tags["live_run_id"] == run.info.run_id
    assert version.tags["live_accuracy"] == "0.916667"
    files = Path(mlflow.artifacts.download_artifacts(f"{run.info.artifact_uri}/live"))
    assert {file.name for file in files.iterdir()} == {"batch.json", "batch.csv", "confusion_matrix.png"}


@pytest.fixture
def cats(tmp_path: Path) -> Path:
    for name in ("cat", "dog"):
        (tmp_path / "cats" / name).mkdir(parents=True)
        for number in range(4):
            (tmp_path / "cats" / name / f"{number}.jpg").write_bytes(f"{name} {number}".encode())
    return tmp_path / "cats"


def prediction(sent: Sent, **changes: object) -> Reply:
    cat = 0.9 if sent.body.startswith(b"cat") else 0.1
    label = "cat" if cat > 0.5 else "dog"
    told = {"label": label, "probabilities": {"cat": cat, "dog": 1 - cat}}
    return Reply(content=PREDICTION | told | changes)


def answering(predict: Callable[[Sent], Reply], model: Any = MODEL) -> Callable[[Sent], Reply]:
    def reply(sent: Sent) -> Reply:
        if sent.path == "/model":
            return model() if callable(model) else Reply(content=model)
        return Reply(204) if sent.path == "/feedback" else predict(sent)

    return reply


def test_what_fails_for_the_moment_is_tried_again(cats: Path, tmp_path: Path) -> None:
    seen_before: set[bytes] = set()
    times: dict[bytes, list[float]] = {}
    lock = threading.Lock()

    def predict(sent: Sent) -> Reply:
        with lock:
            times.setdefault(sent.body, []).append(time.monotonic())
            again = sent.body in seen_before
            seen_before.add(sent.body)
        if not again and sent.body == b"cat 0":
            return Reply(0)
        if not again and sent.body == b"cat 1":
            return Reply(503, {"detail": "full"}, {"Retry-After": "2"})
        if not again and sent.body == b"cat 2":
            return Reply(502, b"<html>")
        return prediction(sent)

    starting = iter([Reply(503, {}, {"Retry-After": "1"}), *[Reply(content=MODEL)] * 9])
    with endpoint(answering(predict, lambda: next(starting))) as (url, _):
        told, written = collect(url, cats, tmp_path, "--no-mlflow", "--concurrency", 8)
    attempts = {row["path"]: row["attempts"] for row in written["photos"]}
    once = {f"{name}/{number}.jpg": 1 for name in ("cat", "dog") for number in range(4)}
    assert attempts == once | {"cat/0.jpg": 2, "cat/1.jpg": 2, "cat/2.jpg": 2}
    first, second = times[b"cat 1"]
    assert second - first >= 2
    assert "accuracy 1.0000" in told
    assert "8/8" in told  # of the progress bar


def test_unknown_is_an_answer(cats: Path, tmp_path: Path) -> None:
    def predict(sent: Sent) -> Reply:
        return prediction(sent, **({"label": "unknown", "known": 0.1} if sent.body == b"dog 3" else {}))

    with endpoint(answering(predict)) as (url, seen):
        told, written = collect(url, cats, tmp_path, "--no-mlflow")
    assert "8 of 8 photos answered" in told
    assert "accuracy 1.0000" in told
    assert "1 answered as unknown; the figures are of the likeliest class" in told
    assert written["figures"]["unknown"] == 1
    assert {row["path"]: row["predicted"] for row in written["photos"]}["dog/3.jpg"] == "unknown"
    judged = [json.loads(sent.body) for sent in seen if sent.path == "/feedback"]
    assert {(told["predicted"], told["actual"]) for told in judged} == {
        ("cat", "cat"), ("dog", "dog"), ("unknown", "dog"),
    }  # fmt: skip


def test_what_goes_on_failing_ends(cats: Path, tmp_path: Path) -> None:
    def predict(sent: Sent) -> Reply:
        if sent.body == b"cat 0":
            return Reply(500, {"detail": "broken\nin two"})
        if sent.body == b"cat 1":
            return Reply(content={"label": "cat"})
        if sent.body == b"cat 2":
            return Reply(503)
        return prediction(sent)

    with endpoint(answering(predict)) as (url, _):
        arguments = ("--no-mlflow", "--patience", 2)
        told, written = collect(url, cats, tmp_path, *arguments, code=1)
        dead, rows = collect("http://127.0.0.1:1", cats, tmp_path, *arguments, code=1)
    assert "failed: 3 photos are left without an answer" in told
    assert "without an answer: cat/0.jpg: status 500 broken?in two" in told
    assert "without an answer: cat/1.jpg: status 200, but not a prediction" in told
    attempts = {row["path"]: row["attempts"] for row in written["photos"]}
    assert attempts["cat/0.jpg"] == 1
    assert attempts["cat/2.jpg"] > 1
    assert "5 of 8 photos answered; 3 without an answer" in told
    assert "accuracy 1.0000" in told
    assert "no answer (ConnectionError)" in dead
    assert not rows


def test_a_service_that_dies_keeps_nobody_waiting(cats: Path, tmp_path: Path) -> None:
    with endpoint(answering(lambda _: Reply(0), lambda: next(models))) as (url, seen):
        models = iter([Reply(content=MODEL), *[Reply(0)] * 99])
        told, written = collect(
            url, cats, tmp_path, "--no-mlflow", "--patience", 2, "--concurrency", 1, code=1
        )
    assert len({sent.body for sent in seen if sent.path == "/predict"}) < 8  # not every photo is waited for
    assert "failed: no photo was answered" in told
    assert "not sent: the service answers no longer" in told
    assert {row["status"] for row in written["photos"]} == {0}


def test_a_model_that_changes_is_told(cats: Path, tmp_path: Path) -> None:
    versions = itertools.count()

    def predict(sent: Sent) -> Reply:
        return prediction(sent, model={"version": "v1" if next(versions) < 5 else "v2", "arch": "x"})

    with endpoint(answering(predict)) as (url, _):
        told, written = collect(url, cats, tmp_path, "--no-mlflow", "--concurrency", 1)
    assert "the model changed while the batch ran: {'v1': 5, 'v2': 3}" in told
    assert written["versions"] == {"v1": 5, "v2": 3}


def test_only_the_file_changes(cats: Path, tmp_path: Path) -> None:
    models = iter([Reply(content=MODEL), Reply(content=MODEL | {"sha256": "b" * 64})])
    with endpoint(answering(prediction, lambda: next(models))) as (url, seen):
        told, _ = collect(url, cats, tmp_path, "--no-mlflow", "--no-feedback")
    assert "the model changed" in told
    assert "feedback" not in told
    assert "/feedback" not in {sent.path for sent in seen}


def test_zip_and_a_part_of_the_photos(cats: Path, tmp_path: Path) -> None:
    shutil.rmtree(cats / "dog")
    (cats / "dog").mkdir()
    (cats / "dog" / "0.jpg").write_bytes(b"dog 0")
    archive = shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path, "cats")
    with endpoint(answering(prediction)) as (url, seen):
        _, part = collect(url, archive, tmp_path, "--no-mlflow", "--max-photos", 3)
        assert sorted(sent.body[:3] for sent in seen if sent.path == "/predict") == [b"cat", b"cat", b"dog"]
        _, cat_only = collect(url, cats, tmp_path, "--no-mlflow", "--max-photos", 1)
    assert sorted(row["actual"] for row in part["photos"]) == ["cat", "cat", "dog"]
    assert "roc_auc" in part["figures"]
    assert "roc_auc" not in cat_only["figures"]


def test_errors_of_a_person(cats: Path, tmp_path: Path) -> None:
    (cats / "mouse").mkdir()
    (cats / "mouse" / "1.jpg").write_bytes(b"mouse")
    (tmp_path / "empty").mkdir()
    moved = Reply(301, {}, {"Location": "https://elsewhere.example/"})
    with endpoint(answering(prediction)) as (url, seen), endpoint(lambda _: moved) as (old, _):
        with endpoint(lambda _: Reply(content={"classes": [1]})) as (other, _):
            for arguments, message in (
                ((url, cats), "the model has no class mouse; it has cat, dog"),
                ((url, tmp_path / "missing"), "there is no file or folder"),
                ((url, tmp_path / "empty"), "no photos in folders"),
                ((url.replace("//", "//user:secret@"), cats), "without user and password"),
                (("nowhere", cats), "http://"),
                ((old, cats), "redirects"),
                ((other, cats), "not what this service answers"),
            ):
                told, written = collect(*arguments, tmp_path, "--no-mlflow", "--patience", 2, code=1)
                assert told.startswith("error: ") or "\nerror: " in told
                assert message in told
                assert "secret" not in told
                assert not written
        assert "/predict" not in {sent.path for sent in seen}
        told, _ = collect(url, cats, tmp_path, "--concurrency", 0, code=2)
        assert "--concurrency from 1" in told


def test_the_daily_check_works_out_of_the_box(tmp_path: Path) -> None:
    summary, out = tmp_path / "summary.md", tmp_path / "batch.json"
    env = {"PATH": os.environ["PATH"], "PYTHON": sys.executable, "GITHUB_STEP_SUMMARY": str(summary)}
    env["MONITOR_OUT"] = str(out)

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "scripts" / "collect.sh")]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=HANG_S, cwd="/", env=env | more
        )

    refused = run()
    assert refused.returncode == 1
    assert refused.stderr == "error: SERVICE_URL is not set: which service?\n"
    with running(LOG_LEVEL="error") as service:
        service.wait()
        done = run(SERVICE_URL=f"http://127.0.0.1:{service.port}")
        assert done.returncode == 0, done.stderr
        assert "2 of 2 photos answered\n" in done.stdout
        assert "MLflow" not in done.stdout  # without MLFLOW_TRACKING_URI
        assert summary.read_text() == f"```\n{done.stdout}```\n"
        assert len(json.loads(out.read_text())["photos"]) == 2
        assert metric(service.port, "feedback_judged_total")['feedback_judged_total{correct="true"}'] == 2

        (tmp_path / "set" / "cat").mkdir(parents=True)
        shutil.copy(ROOT / "tests" / "photos" / "dog.jpg", tmp_path / "set" / "cat")
        settings = {"MONITOR_DATA": str(tmp_path / "set"), "MONITOR_MIN_ACCURACY": "0.5"}
        wrong = run(SERVICE_URL=f"http://127.0.0.1:{service.port}", **settings)
        assert wrong.returncode == 1
        assert "failed: accuracy 0.0000 is under 0.5" in wrong.stderr
