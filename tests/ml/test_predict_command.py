"""`python -m ml predict`."""

import csv
import io
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
import torch

from ml import predict
from ml.local_model import LocalModel
from ml.model import bundle
from ml.model.networks import build
from tests.conftest import encode
from tests.helpers.endpoint import Reply, endpoint
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S
from tests.ml.conftest import Done

PHOTOS = ROOT / "tests/photos"
CAT, DOG = PHOTOS / "cat.jpg", PHOTOS / "dog.jpg"


@pytest.fixture
def run(run_ml: Callable[..., Done]) -> Callable[..., Done]:
    return partial(run_ml, "predict")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "photos/more").mkdir(parents=True)
    (tmp_path / "photos/b.jpg").write_bytes(DOG.read_bytes())
    (tmp_path / "photos/a.JPG").write_bytes(CAT.read_bytes())
    (tmp_path / "photos/more/c.jpeg").write_bytes(CAT.read_bytes())
    (tmp_path / "photos/notes.txt").write_text("not a photo")
    return tmp_path


def test_the_table_lists_a_folder_and_its_subfolders(run, folder):
    done = run("photos", folder=folder)
    assert (done.returncode, done.stderr) == (0, "")
    head, *rows = (line.split() for line in done.stdout.splitlines())
    assert head[:4] == ["path", "label", "cat", "dog"]
    assert [row[:2] for row in rows] == [
        ["photos/a.JPG", "cat"], ["photos/b.jpg", "dog"], ["photos/more/c.jpeg", "cat"],
    ]  # fmt: skip


def test_any_name_of_a_file_is_printed_as_it_is(folder):
    name = os.fsdecode(b"caf\xe9.jpg")
    (folder / name).write_bytes(CAT.read_bytes())
    command = [sys.executable, "-m", "ml", "predict", folder / name, "--format", "csv"]
    done = subprocess.run(
        command, cwd=ROOT, capture_output=True, timeout=HANG_S, env=os.environ | {"PYTHONUTF8": "1"}
    )
    assert (done.returncode, done.stderr) == (0, b"")
    assert os.fsencode(folder / name) in done.stdout


def test_the_reader_of_the_output_may_end_first(folder):
    command = [sys.executable, "-m", "ml", "predict", folder / "photos"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_a_url_is_shown_without_secrets_and_must_be_one(run, folder):
    with endpoint(lambda _: Reply(404)) as (url, _):
        secret = url.replace("//", "//user:hunter2@")
        refused = run("--model", f"{secret}/m.pt?sig=topsecret", CAT, folder=folder)
    assert refused.returncode == 1
    assert f"{url}/m.pt: " in refused.stderr
    assert "hunter2" not in refused.stderr
    assert "topsecret" not in refused.stderr
    broken = run("--model", "http://user:hunter2@[x/model.pt?sig=topsecret", CAT, folder=folder)
    assert "http://[x/model.pt is not a URL: " in broken.stderr


def test_json_and_csv_say_the_same(run, folder):
    rows = json.loads(run("--format", "json", CAT, DOG).stdout)
    assert [row["label"] for row in rows] == ["cat", "dog"]
    assert [row["path"] for row in rows] == [str(CAT), str(DOG)]
    assert all(sum(row["probabilities"].values()) == pytest.approx(1, abs=1e-5) for row in rows)
    table = list(csv.DictReader(io.StringIO(run("--format", "csv", CAT, DOG).stdout)))
    for row, line in zip(rows, table, strict=True):
        assert {name: float(line[name]) for name in row["probabilities"]} == row["probabilities"]
        assert line["label"] == row["label"]


def test_unusable_files_are_listed_at_the_end(run, folder):
    (folder / "photos/0.png").write_bytes(b"\x89PNG\r\n\x1a\nno more")
    (folder / "note.jpg").write_text("text")
    os.truncate(folder / "photos/0.png", 200 << 30)  # sparse
    os.mkfifo(folder / "pipe.jpg")
    done = run("photos", "note.jpg", "pipe.jpg", "--format", "csv", folder=folder)
    assert done.returncode == 1
    assert len(done.stdout.splitlines()) == 4
    broken, text, pipe, count = done.stderr.splitlines()
    assert broken == "photos/0.png: larger than 100 MB"
    assert text.startswith("note.jpg: ")
    assert pipe == "pipe.jpg: not a file"
    assert count == "3 of 6 can't be used"


def test_a_class_that_is_called_like_a_column(run, make_model):
    model = make_model(classes=["label", "known"])
    done = run(CAT, "--model", model, "--format", "csv")
    assert (done.returncode, done.stdout) == (1, "")
    assert "the class 'known' has the name of a column of the CSV file: use --format json" in done.stderr
    assert run(CAT, "--model", model, "--format", "json").returncode == 0


def test_photos_of_none_of_the_classes_are_unknown(run):
    (row,) = json.loads(run("--format", "json", PHOTOS / "other/duck.jpg").stdout)
    assert row["label"] == "unknown"
    assert row["known"] < 0.5


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["none.jpg"], 1, "error: there is no file or folder none.jpg"),
        ([], 2, "usage"),
        ([CAT, "--model", "none.pt"], 1, "error: none.pt can't be used"),
        ([CAT, "--model", (ROOT / "none.pt").as_uri()], 1, f"error: {ROOT / 'none.pt'} can't be used"),
        ([CAT, "--model", CAT], 1, "can't be used"),
        ([ROOT / "monitoring"], 1, "no photos in"),
    ],
)
def test_errors_are_one_line(run, arguments, code, message):
    done = run(*arguments)
    assert done.returncode == code
    assert message in done.stderr
    assert "Traceback" not in done.stderr
    assert done.stdout == ""


def test_many_photos_show_the_progress(run, folder):
    for number in range(20):
        (folder / f"photos/{number}.jpg").write_bytes(CAT.read_bytes())
    done = run("photos", folder=folder)
    assert len(done.stdout.splitlines()) == 24
    assert "23/23" in done.stderr


def test_a_model_from_a_url_and_the_model_of_the_pipeline(run, folder, make_model):
    model = make_model("own.pt", classes=("red", "blue"))
    with endpoint(lambda _: Reply(content=model.read_bytes())) as (url, _):
        (row,) = json.loads(run("--format", "json", "--model", f"{url}/model.pt", CAT).stdout)
    assert set(row["probabilities"]) == {"red", "blue"}
    (folder / "models").mkdir()
    (folder / "models/model.pt").write_bytes(model.read_bytes())
    (own,) = json.loads(run("--format", "json", CAT, folder=folder).stdout)
    assert own == row


def test_a_plain_checkpoint_is_run_by_torch(run, folder):
    torch.save(build("simple_cnn", 2).state_dict(), folder / "plain.pt")
    (row,) = json.loads(run("--format", "json", "--model", folder / "plain.pt", CAT).stdout)
    assert set(row["probabilities"]) == {"cat", "dog"}


def test_no_torch_is_imported_for_a_model_with_an_onnx_model():
    code = (
        "import sys; from ml.__main__ import COMMANDS; from ml.cli import run; "
        "run('ml', '', COMMANDS, ['predict', sys.argv[1]]); print('torch' in sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(CAT)], capture_output=True, text=True, cwd=ROOT, check=True
    )
    assert done.stdout.splitlines()[-1] == "False"


def test_a_url_without_a_model(run):
    with endpoint(lambda _: Reply(404)) as (url, _):
        done = run("--model", f"{url}/model.pt", CAT)
    assert done.returncode == 1
    assert "answered 404" in done.stderr


def test_photos_are_classified_in_parallel_in_their_order_and_not_far_ahead(folder, make_model, monkeypatch):
    """Each photo is answered with its own brightness, after two of them have met."""
    monkeypatch.setattr(predict, "available_cpus", lambda: 2)
    manifest = bundle.read(make_model()).manifest
    both, begun = threading.Barrier(2), []

    def run(images):
        begun.append(None)
        if len(begun) <= 2:
            both.wait(HANG_S)
        share = images[0, 0, 0, 0] / 255
        return {"probabilities": np.array([[share, 1 - share]])}

    paths = []
    for number in range(200):
        paths.append(folder / f"{number}.png")
        paths[-1].write_bytes(encode(np.full((8, 8, 3), number, np.uint8), "PNG"))
    paths[50] = folder / "none.png"
    answers = predict.predict(LocalModel(manifest, run), paths)
    first = next(answers)
    assert len(begun) < 150
    path_and_answer = [first, *answers]
    assert [path for path, _ in path_and_answer] == paths
    for number, (_, answer) in enumerate(path_and_answer):
        if number == 50:
            assert "No such file" in answer
        else:
            assert next(iter(answer.probabilities.values())) == pytest.approx(number / 255, abs=1e-5)


def test_a_photo_without_probabilities_costs_no_other_its_answer():
    manifest = bundle.read(ROOT / "app/default/model.pt").manifest
    answers = iter([[0.9, 0.1], [np.nan, np.nan], [0.2, 0.8]])
    model = LocalModel(manifest, lambda _: {"probabilities": np.array([next(answers)])})
    results = [answer for _, answer in predict.predict(model, [CAT, CAT, CAT])]
    broken = [answer for answer in results if isinstance(answer, str)]
    assert broken == ["the network returns no probabilities for this photo"]
    assert len(results) == 3
