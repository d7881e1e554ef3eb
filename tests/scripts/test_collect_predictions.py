"""Labelled batches on the service itself, and on stand-ins that fail as services do."""

import csv
import datetime
import email.utils
import itertools
import json
import os
import shutil
import ssl
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

from ml.registry import registry
from tests.app.routes.test_predict import RED_JPEG
from tests.conftest import BLUE, RED, coloured, encode
from tests.helpers.endpoint import PREDICTION, Reply, Sent, endpoint
from tests.helpers.paths import ROOT
from tests.helpers.service import running
from tests.helpers.tls import certificate
from tests.helpers.waiting import HANG_S
from tests.scripts.test_traffic import metric

# Raised inside mlflow.
pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

COMMAND = (sys.executable, "-m", "scripts.collect_predictions")
MODEL = {"version": "v1", "sha256": "a" * 64, "classes": ["cat", "dog"], "arch": "simple_cnn"}


@pytest.fixture
def batch(tmp_path: Path) -> Path:
    """Six photos per class, one with a wrong label; two files that are not photos; one in no class."""
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
    url: str, data: object | None, out: Path, *arguments: object, code: int = 0, **env: str
) -> tuple[str, dict[str, Any]]:
    """Return what it prints and what it writes."""
    command = [*COMMAND, url, *(("--data", data) if data else ()), "--out", out / "batch.json", *arguments]
    done = subprocess.run(
        list(map(str, command)),
        capture_output=True,
        text=True,
        timeout=HANG_S,
        cwd=out,
        env=os.environ | {"PYTHONPATH": str(ROOT)} | env,
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
        register_versions(store, service.get("/model")[1]["sha256"])
        output, written = collect(
            f"{url}/?token=x", batch, tmp_path, API_KEY="the-key", MLFLOW_TRACKING_URI=store
        )
        feedback = metric(service.port, "feedback_total")

        rejected, nothing = collect(url, batch, tmp_path, "--no-mlflow", code=1, API_KEY="another")
        assert "error: " in rejected
        assert "answered 401" in rejected
        assert not nothing
    assert "left out: 1 files" in output
    assert "12 of 14 photos answered; 2 rejected" in output
    assert "accuracy 0.9167 (95 % interval 0.6461 to 0.9851)" in output  # Wilson's, of 11 in 12
    assert "accuracy 0.7857 if every photo without a prediction counts as wrong" in output
    assert "     red        5        1" in output
    assert "    blue        0        6" in output
    assert "rejected: red/text.jpg: status 415 " in output
    assert "rejected: blue/cut.jpg: status 422 " in output
    assert "feedback: 12 true labels sent, 0 not accepted" in output
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
    assert_linked(store, written)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", store)
    by_weights = registry.find("test-1", "f" * 64)
    assert by_weights is not None
    assert int(by_weights.version) == 3
    assert registry.find("another", "f" * 64) is None


def test_without_photos_the_examples_of_the_service_are_sent(
    make_model: Callable[..., Path], tmp_path: Path
) -> None:
    photos = {"0.0": encode(coloured(RED)), "1.0": encode(coloured(BLUE)), "1.1": encode(coloured(RED))}
    for examples, message in ((photos, "accuracy 0.6667"), ({}, "offers no example photos: name your own")):
        with running(LOG_LEVEL="error", MODEL_URL=make_model(examples=examples).as_uri()) as service:
            service.wait()
            url = f"http://127.0.0.1:{service.port}"
            output, written = collect(url, None, tmp_path, "--no-mlflow", code=0 if examples else 1)
        assert message in output
        assert len(written.get("photos", ())) == len(examples)
    listing = {"examples": [{"label": "cat", "path": "//elsewhere/cat.jpg"}, {"label": 1}]}
    for reply, message in (
        (lambda _: Reply(content={"examples": [{"label": 1}]}), "does not list photos with label and path"),
        (lambda _: Reply(500, {"detail": "no disk"}), "/model/examples: status 500 no disk"),
        (
            lambda sent: Reply(200, listing) if sent.path == "/model/examples" else Reply(500),
            "photo of cat: ",
        ),
        (lambda _: Reply(404), "offers no example photos"),
    ):
        with endpoint(answering(reply)) as (url, _):
            assert message in collect(url, None, tmp_path, "--no-mlflow", "--patience", 2, code=1)[0]
    with endpoint(lambda _: Reply(content={})) as (url, _):
        output, _ = collect(url, None, tmp_path, "--no-mlflow", "--patience", 2, code=1)
    assert "is this the URL of the service?" in output


def register_versions(store: str, sha256: str) -> None:
    """Register three versions of the model; the second one is the file that is served."""
    client = MlflowClient(store, store)
    client.create_registered_model("cats-vs-dogs")
    for digest in ("0" * 64, sha256, "1" * 64):
        tags = {"model_version": "test-1", "sha256": digest}
        client.create_model_version("cats-vs-dogs", "file:///nowhere", "some-run", tags=tags)


def assert_linked(store: str, written: dict[str, Any]) -> None:
    """The run holds what was written, and is linked with the registered version in both directions."""
    client = MlflowClient(store, store)
    experiment = client.get_experiment_by_name("cats-vs-dogs")
    (run,) = client.search_runs([experiment.experiment_id])
    assert run.data.metrics["live_accuracy"] == pytest.approx(11 / 12)
    assert run.data.metrics["live_rejected"] == 2
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
    fields = {"label": label, "probabilities": {"cat": cat, "dog": 1 - cat}}
    return Reply(content=PREDICTION | fields | changes)


def answering(predict: Callable[[Sent], Reply], model: Any = MODEL) -> Callable[[Sent], Reply]:
    def reply(sent: Sent) -> Reply:
        if sent.path == "/model":
            return model() if callable(model) else Reply(content=model)
        return Reply(204) if sent.path == "/feedback" else predict(sent)

    return reply


def test_transient_failures_are_retried(cats: Path, tmp_path: Path) -> None:
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

    soon = email.utils.format_datetime(
        datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=2), usegmt=True
    )
    starting = iter([Reply(503, {}, {"Retry-After": soon}), *[Reply(content=MODEL)] * 9])
    with endpoint(answering(predict, lambda: next(starting))) as (url, _):
        output, written = collect(url, cats, tmp_path, "--no-mlflow", "--concurrency", 8)
    attempts = {row["path"]: row["attempts"] for row in written["photos"]}
    once = {f"{name}/{number}.jpg": 1 for name in ("cat", "dog") for number in range(4)}
    assert attempts == once | {"cat/0.jpg": 2, "cat/1.jpg": 2, "cat/2.jpg": 2}
    first, second = times[b"cat 1"]
    assert second - first >= 2
    assert "accuracy 1.0000" in output
    assert "8/8" in output  # the progress bar


def test_unknown_is_an_answer(cats: Path, tmp_path: Path) -> None:
    def predict(sent: Sent) -> Reply:
        return prediction(sent, **({"label": "unknown", "known": 0.1} if sent.body == b"dog 3" else {}))

    with endpoint(answering(predict)) as (url, seen):
        output, written = collect(url, cats, tmp_path, "--no-mlflow")
    assert "8 of 8 photos answered" in output
    assert "accuracy 1.0000" in output
    assert "1 answered as unknown; the metrics are those of the likeliest class" in output
    assert written["figures"]["unknown"] == 1
    assert {row["path"]: row["predicted"] for row in written["photos"]}["dog/3.jpg"] == "unknown"
    judged = [json.loads(sent.body) for sent in seen if sent.path == "/feedback"]
    assert {(word["predicted"], word["actual"]) for word in judged} == {
        ("cat", "cat"), ("dog", "dog"), ("unknown", "dog"),
    }  # fmt: skip


@pytest.mark.parametrize(("low", "code"), [(0.5908, 3), (0.5906, 0), ("high", 0)])
def test_an_accuracy_below_that_of_the_test_photos_has_a_code_of_its_own(
    cats: Path, tmp_path: Path, low: object, code: int
) -> None:
    """Two of eight are right: the upper end of Wilson's 95 % interval is 0.5907."""

    def predict(sent: Sent) -> Reply:
        return prediction(sent, label="cat", probabilities={"cat": 0.9, "dog": 0.1})

    for number in range(2, 4):
        (cats / "cat" / f"{number}.jpg").rename(cats / "dog" / f"again {number}.jpg")
    model = MODEL | {"metrics": {"accuracy_low": low}}
    with endpoint(answering(predict, model)) as (url, _):
        output, _ = collect(url, cats, tmp_path, "--no-mlflow", code=code)
    message = "failed: accuracy is at most 0.5907, and at least"
    assert (message in output) == (code == 3)


def test_lasting_failures_end(cats: Path, tmp_path: Path) -> None:
    def predict(sent: Sent) -> Reply:
        if sent.body == b"cat 0":
            return Reply(500, {"detail": "broken\nin two"})
        if sent.body == b"cat 1":
            return Reply(content={"label": "cat"})
        if sent.body == b"cat 2":
            return Reply(503)
        return prediction(sent)

    with endpoint(answering(predict)) as (url, _):
        arguments = ("--no-mlflow", "--patience", 4)
        output, written = collect(url, cats, tmp_path, *arguments, code=1)
        dead, rows = collect("http://127.0.0.1:1", cats, tmp_path, *arguments, code=1)
    assert "failed: 3 photos are left without an answer" in output
    assert "without an answer: cat/0.jpg: status 500 broken?in two" in output
    assert "without an answer: cat/1.jpg: status 200, but not a prediction" in output
    attempts = {row["path"]: row["attempts"] for row in written["photos"]}
    assert attempts["cat/0.jpg"] == 1
    assert attempts["cat/2.jpg"] > 1
    assert "5 of 8 photos answered; 3 without an answer" in output
    assert "accuracy 1.0000" in output
    assert "no answer (ConnectionError)" in dead
    assert not rows


def test_a_service_that_dies_ends_the_batch(cats: Path, tmp_path: Path) -> None:
    with endpoint(answering(lambda _: Reply(0), lambda: next(models))) as (url, seen):
        models = iter([Reply(content=MODEL), *[Reply(0)] * 99])
        output, written = collect(
            url, cats, tmp_path, "--no-mlflow", "--patience", 2, "--concurrency", 1, code=1
        )
    assert (
        len({sent.body for sent in seen if sent.path == "/predict?keep=0"}) < 8
    )  # it does not wait for every photo
    assert "failed: no photo was answered" in output
    assert "not sent: the service no longer answers" in output
    assert {row["status"] for row in written["photos"]} == {0}


def test_the_api_key_stays_with_the_service(cats: Path, tmp_path: Path) -> None:
    with endpoint(lambda _: Reply(content=MODEL)) as (other, elsewhere):
        moved = Reply(307, {}, {"Location": f"{other}/model"})
        with endpoint(lambda _: moved) as (url, seen):
            output, _ = collect(url, cats, tmp_path, "--no-mlflow", code=1, API_KEY="the-key")
    assert {sent.headers["x-api-key"] for sent in seen} == {"the-key"}
    assert not elsewhere
    assert "redirects" in output
    assert "the-key" not in output


def test_an_untrusted_certificate_ends_the_batch_at_once(cats: Path, tmp_path: Path) -> None:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate(tmp_path))
    with endpoint(answering(prediction), context) as (url, seen):
        output, _ = collect(url, cats, tmp_path, "--no-mlflow", "--patience", 10 * HANG_S, code=1)
    assert "its TLS certificate is not trusted" in output
    assert not seen


def test_a_model_that_changes_is_reported(cats: Path, tmp_path: Path) -> None:
    versions = itertools.count()

    def predict(sent: Sent) -> Reply:
        return prediction(sent, model={"version": "v1" if next(versions) < 5 else "v2", "arch": "x"})

    with endpoint(answering(predict)) as (url, _):
        output, written = collect(url, cats, tmp_path, "--no-mlflow", "--concurrency", 1)
    assert "the model changed during the batch: {'v1': 5, 'v2': 3}" in output
    assert written["versions"] == {"v1": 5, "v2": 3}


def test_a_model_file_that_changes_is_reported(cats: Path, tmp_path: Path) -> None:
    models = iter([Reply(content=MODEL), Reply(content=MODEL | {"sha256": "b" * 64})])
    with endpoint(answering(prediction, lambda: next(models))) as (url, seen):
        output, _ = collect(url, cats, tmp_path, "--no-mlflow", "--no-feedback")
    assert "the model changed" in output
    assert "feedback" not in output
    assert "/feedback" not in {sent.path for sent in seen}


def test_a_zip_file_and_a_sample_of_the_photos(cats: Path, tmp_path: Path) -> None:
    shutil.rmtree(cats / "dog")
    (cats / "dog").mkdir()
    (cats / "dog" / "0.jpg").write_bytes(b"dog 0")
    archive = shutil.make_archive(str(tmp_path / "set"), "zip", tmp_path, "cats")
    # Of the data set, whose photos are not part of the batch.
    row = ("0" * 32, "2026-11-27", "cat", "a" * 64, "b" * 64, "c" * 64)
    (tmp_path / "collected.csv").write_text(f"id,day,label,sha256,answer,request\n{','.join(row)}\n")
    with endpoint(answering(prediction)) as (url, seen):
        _, part = collect(url, archive, tmp_path, "--no-mlflow", "--max-photos", 3)
        assert sorted(sent.body[:3] for sent in seen if sent.path == "/predict?keep=0") == [
            b"cat",
            b"cat",
            b"dog",
        ]
        _, cat_only = collect(url, cats, tmp_path, "--no-mlflow", "--max-photos", 1)
    assert sorted(row["actual"] for row in part["photos"]) == ["cat", "cat", "dog"]
    assert "roc_auc" in part["figures"]
    assert "roc_auc" not in cat_only["figures"]


def test_user_errors(cats: Path, tmp_path: Path) -> None:
    (cats / "mouse").mkdir()
    (cats / "mouse" / "1.jpg").write_bytes(b"mouse")
    (tmp_path / "empty").mkdir()
    moved = Reply(301, {}, {"Location": "https://elsewhere.example/"})
    with endpoint(answering(prediction)) as (url, seen), endpoint(lambda _: moved) as (old, _):
        with endpoint(lambda _: Reply(content={"classes": [1]})) as (other, _):
            for arguments, message in (
                ((url, cats), "the model has no class mouse; it has cat, dog"),
                ((url, tmp_path / "missing"), "there is no file or folder"),
                ((url, tmp_path / "empty"), "no photos in folders named"),
                ((url.replace("//", "//user:secret@"), cats), "without user and password"),
                (("nowhere", cats), "http://"),
                ((old, cats), "redirects"),
                ((other, cats), "does not describe a model"),
            ):
                output, written = collect(*arguments, tmp_path, "--no-mlflow", "--patience", 2, code=1)
                assert output.startswith("error: ") or "\nerror: " in output
                assert message in output
                assert "secret" not in output
                assert not written
        assert not any(sent.path.startswith("/predict") for sent in seen)
        output, _ = collect(url, cats, tmp_path, "--concurrency", 0, code=2)
        assert "--concurrency must be from 1" in output
        for out in ("rows.csv", "."):  # the CSV file would replace it
            output, _ = collect(url, cats, tmp_path, "--out", out, code=2)
            assert "--out names the JSON file" in output


def test_the_daily_check_works_out_of_the_box(tmp_path: Path) -> None:
    summary, out = tmp_path / "summary.md", tmp_path / "batch.json"
    env = {"PATH": os.environ["PATH"], "PYTHON": sys.executable, "GITHUB_STEP_SUMMARY": str(summary)}
    env["MONITOR_OUT"] = str(out)

    def run(**more: str) -> subprocess.CompletedProcess[str]:
        command = [str(ROOT / "scripts" / "collect.sh")]
        return subprocess.run(
            command, capture_output=True, text=True, timeout=HANG_S, cwd="/", env=env | more
        )

    without_url = run()
    assert without_url.returncode == 1
    assert without_url.stderr == "error: set SERVICE_URL to the URL of the service\n"
    with running(LOG_LEVEL="error") as service:
        service.wait()
        done = run(SERVICE_URL=f"http://127.0.0.1:{service.port}")
        assert done.returncode == 0, done.stderr
        assert "2 of 2 photos answered\n" in done.stdout
        assert "MLflow" not in done.stdout  # without MLFLOW_TRACKING_URI
        assert summary.read_text() == f"```\n{done.stdout}```\n"
        assert len(json.loads(out.read_text())["photos"]) == 2
        # The alert on the accuracy that users report must not see these photos.
        assert metric(service.port, "feedback_judged_total")['feedback_judged_total{correct="true"}'] == 0

        (tmp_path / "set" / "cat").mkdir(parents=True)
        shutil.copy(ROOT / "tests" / "photos" / "dog.jpg", tmp_path / "set" / "cat")
        settings = {"MONITOR_DATA": str(tmp_path / "set"), "MONITOR_MIN_ACCURACY": "0.5"}
        wrong = run(SERVICE_URL=f"http://127.0.0.1:{service.port}", **settings)
        assert wrong.returncode == 3  # worse than on the test photos, so training again may help
        assert "failed: accuracy 0.0000 is below 0.5" in wrong.stderr
