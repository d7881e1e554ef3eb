"""`python -m ml score` with threads: each photo once, whatever happens."""

import os
import signal
import subprocess
import sys
import threading
from collections import Counter
from functools import partial

import numpy as np
import pyarrow.parquet as pq
import pytest

from ml.model.sandbox.sandbox import AVAILABLE
from ml.scoring import local, output
from ml.scoring.output import Output
from tests.conftest import BLUE, RED, coloured, encode
from tests.helpers import s3
from tests.helpers.endpoint import Reply, endpoint
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S, until
from tests.ml.model.sandbox.test_sandbox import HOSTILE

CAT = ROOT / "tests/photos/cat.jpg"
linux = pytest.mark.skipif(sys.platform != "linux", reason="ru_maxrss has other units")


@pytest.fixture
def run(run_ml):
    return partial(run_ml, "score")


@pytest.fixture
def photos(tmp_path):
    """Tiny photos; as many files as are wanted, with few contents."""

    def make(count, name="photos"):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "0.png").write_bytes(encode(coloured(RED, 40, 40), "PNG"))
        for number in range(1, count):
            (folder / f"{number}.png").hardlink_to(folder / "0.png")
        return folder

    return make


def table(folder):
    return pq.read_table(folder).to_pylist(maps_as_pydicts="strict")


def start(*arguments, **options):
    command = [sys.executable, "-m", "ml", "score", *map(str, arguments), "--engine", "threads"]
    return subprocess.Popen(
        command, cwd=ROOT, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, **options
    )


def test_good_and_bad_photos(run, photos, tmp_path, make_model):
    folder, model = photos(3), make_model()
    (folder / "blue ?#.png").write_bytes(encode(coloured(BLUE, 50, 40), "PNG"))
    (folder / "broken.jpg").write_bytes(CAT.read_bytes()[:5000])
    (folder / "text.jpg").write_text("not a photo")
    with (folder / "large.jpg").open("wb") as file:
        file.truncate((100 << 20) + 1)
    listed = tmp_path / "list.csv"
    names = ["path", *(f"photos/{file.name}" for file in folder.iterdir()), "photos/vanished.jpg"]
    listed.write_text("\n".join(names))
    done = run(listed, tmp_path / "out", "--model", model, "--engine", "threads")
    assert done.returncode == 0, done.stderr
    by_name = {row["path"].rpartition("/")[2]: row for row in table(tmp_path / "out")}
    assert {name: row["error"] for name, row in by_name.items() if row["error"]} == {
        "broken.jpg": "a truncated or corrupt JPEG image",
        "large.jpg": "larger than 100 MB",
        "text.jpg": "not a JPEG, PNG, WebP, GIF, BMP, AVIF or HEIC image",
        "vanished.jpg": "there is no such file",
    }
    blue = by_name["blue ?#.png"]
    assert (blue["label"], blue["width"], blue["height"], blue["model_version"]) == ("blue", 50, 40, "test-1")
    assert blue["confidence"] == max(blue["probabilities"].values()) == blue["probabilities"]["blue"]
    assert len(blue["sha256"]) == len(by_name["text.jpg"]["sha256"]) == 64
    assert "8 listed, 8 rows" in done.stdout
    assert "engine: " in done.stderr


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="this system has no SIGKILL")
def test_a_run_that_is_killed_at_any_moment_goes_on(run, photos, tmp_path, make_model):
    folder, model, out = photos(600), make_model(), tmp_path / "out"
    arguments = [folder, out, "--model", model, "--part-rows", 8, "--threads", 1]
    for parts in (0, 1, 10, 25):
        process = start(*arguments)
        until(lambda: out.exists() and len(list(out.glob("*.parquet"))) >= parts)  # noqa: B023
        process.kill()
        process.wait(HANG_S)
        if out.exists() and (files := list(out.glob("*.parquet"))):
            assert sum(pq.read_metadata(file).num_rows for file in files) >= 8 * parts
    done = run(*arguments)
    assert done.returncode == 0, done.stderr
    assert Counter(row["path"] for row in table(out)) == dict.fromkeys(map(str, folder.iterdir()), 1)
    assert "600 photos have a row already" in run(*arguments).stderr


def test_answers_are_written_while_a_server_is_slow(photos, tmp_path, make_model, monkeypatch):
    monkeypatch.setattr(output, "PART_S", 0.0)
    answered = threading.Event()

    def reply(_):
        answered.wait(HANG_S)
        return Reply(404)

    with endpoint(reply) as (url, _), Output(str(tmp_path / "out")) as out:
        out.begin("/list", "0" * 64)
        slow = [f"{url}/{number}.jpg" for number in range(16)]
        paths = [*slow, *map(str, photos(16).iterdir())]
        run = threading.Thread(target=local.run, args=(paths, make_model(), out, 2))
        run.start()
        try:
            until(lambda: list((tmp_path / "out").glob("*.parquet")))
        finally:
            answered.set()
            run.join(HANG_S)


@pytest.mark.skipif(not AVAILABLE, reason="this system has no fork")
def test_a_photo_that_kills_its_decoder_is_an_error(photos, tmp_path, make_model):
    folder, model = photos(3), make_model()
    one_pixel = np.zeros((1, 1, 3), np.uint8)
    (folder / "deadly.webp").write_bytes(encode(one_pixel, "WEBP", lossless=True, method=0))
    (tmp_path / "sitecustomize.py").write_text(HOSTILE)
    environ = os.environ | {"PYTHONPATH": str(tmp_path), "PYTHON_HOSTILE": "crash"}
    assert start(folder, tmp_path / "out", "--model", model, env=environ).wait(HANG_S) == 0
    errors = {row["path"]: row["error"] for row in table(tmp_path / "out") if row["error"]}
    assert list(errors) == [str(folder / "deadly.webp")]
    assert "decoding it takes more than" in errors[str(folder / "deadly.webp")]


@linux
def test_memory_does_not_depend_on_the_number_of_photos(photos, tmp_path, make_model):
    model, peaks = make_model(), []
    for count in (300, 3000):
        folders = photos(count, f"p{count}"), tmp_path / f"o{count}"
        process = start(*folders, "--model", model, "--threads", 2)  # few photos would keep few threads busy
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
        assert status == 0
        peaks.append(usage.ru_maxrss)
    assert peaks[1] < 1.1 * peaks[0], peaks


def test_errors_of_the_command_are_one_line(run, photos, tmp_path, monkeypatch, make_model):
    folder = photos(1)
    monkeypatch.setitem(sys.modules, "ml.scoring.ray_engine", None)
    (tmp_path / "empty").mkdir()
    for arguments, message in {
        (tmp_path / "none", tmp_path / "o1"): "error: there is no file or folder",
        (folder, tmp_path / "o2", "--model", CAT): "can't be used",
        (folder, tmp_path / "o2", "--model", tmp_path): f"{tmp_path} can't be used",
        (tmp_path / "empty", tmp_path / "o2"): "error: no photos in ",
        ("", tmp_path / "o2"): "error: SOURCE is empty",
        (folder, ""): "error: OUT is empty",
        (folder, tmp_path / "o3", "--engine", "ray"): "needs Ray",
        (folder, tmp_path / "o4", "--threads", 0): "expected a number from 1 to",
    }.items():
        done = run(*arguments)
        assert done.returncode == (2 if "--threads" in arguments else 1)
        assert message in done.stderr.splitlines()[-1]
    assert not (tmp_path / "o1").exists()  # so that the right command can begin it
    assert not (tmp_path / "o2").exists()
    monkeypatch.setenv("RAY_ADDRESS", "auto")
    assert "engine: ray" in run(folder, tmp_path / "o5").stderr


def test_from_a_bucket_to_a_bucket(run, tmp_path, monkeypatch, make_model):
    import fsspec

    with s3.bucket(tmp_path, monkeypatch):
        store = fsspec.filesystem("s3")
        for number in range(10):
            store.pipe_file(f"photos/in/{number}.jpg", CAT.read_bytes())
        store.pipe_file("photos/in/broken.jpg", b"\xff\xd8\xff")
        arguments = ["s3://photos/in/", "s3://photos/out", "--model", make_model(), "--part-rows", "4"]
        done = run(*arguments)
        assert done.returncode == 0, done.stderr
        assert "11 photos have a row already" in run(*arguments).stderr
        found = pq.read_table("photos/out", filesystem=store).to_pylist()
    assert sorted(row["path"] for row in found) == sorted(
        f"s3://photos/in/{name}.jpg" for name in (*range(10), "broken")
    )
    assert [row["path"] for row in found if row["error"]] == ["s3://photos/in/broken.jpg"]
