"""Splits are stable, and unusable photos are counted instead of stopping the stage."""

import contextlib
import hashlib
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ml.data import decisions, decode, decoding, prepare, shards
from ml.data.dataset import Dataset
from ml.data.locks import locked
from ml.data.splits import OWN_SPLITS
from ml.model.errors import PipelineError
from ml.model.image import read
from ml.params import Params
from tests.conftest import RED, coloured, encode
from tests.helpers.params import copy_params
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S


@pytest.fixture
def go(tmp_path, params):
    def run(raw, out="processed", **changes):
        chosen = params.prepare.model_copy(update=changes)
        return prepare.run(chosen, raw, tmp_path / out, tmp_path / "report")

    return run


def test_two_at_once(make_photos, go, tmp_path):
    raw = make_photos(40)
    with locked(tmp_path / "processed"), pytest.raises(PipelineError, match="another process is writing"):
        go(raw)
    assert not (tmp_path / "report").exists()


def test_a_decision_that_is_made_meanwhile_stops_it(make_photos, params, tmp_path, monkeypatch):
    """DVC would record the new file for the data set that doesn't obey it."""
    raw, decided = make_photos(40), tmp_path / "label_decisions.csv"
    sha256 = hashlib.sha256((raw / "red/000.png").read_bytes()).hexdigest()

    def decide(*arguments):
        decisions.save([decisions.LabelDecision(sha256, "drop", "", "red/000.png")], decided)
        return decode_all(*arguments)

    decode_all = prepare.decode_all
    run = [params.prepare, raw, tmp_path / "processed", tmp_path / "report", decided]
    with monkeypatch.context() as patch:
        patch.setattr(prepare, "decode_all", decide)
        with pytest.raises(PipelineError, match="changed while this stage ran: run the same command again"):
            prepare.run(*run)
    with pytest.raises(PipelineError):
        Dataset.load(tmp_path / "processed")
    assert prepare.run(*run).decided["drop"] == 1


def split_of(data, params):
    """Return the split that the hash of a photo decides, if its class has many."""
    share = int(hashlib.sha256(data).hexdigest()[:13], 16) / 16**13
    if share < params.test_share:
        return "test"
    return "val" if share < params.test_share + params.val_share else "train"


def pixels_of(file):
    with Image.open(file) as image:
        return np.asarray(image)


def split_by_path(folder):
    data = Dataset.load(folder)
    return dict(zip(data.paths, data.splits.tolist(), strict=True))


def test_shares_classes_and_pixels(make_photos, go, tmp_path):
    report = go(make_photos(300))
    for counts in report.kept.values():
        assert sum(counts.values()) == 300
        assert 15 <= counts["val"] <= 50
        assert 15 <= counts["test"] <= 50
    data = Dataset.load(tmp_path / "processed")
    assert data.classes == ("blue", "red")
    assert data.images.shape == (600, 32, 32, 3)
    assert (data.images[data.labels == 1].mean((1, 2))[:, 0] > 100).all()
    with Image.open(tmp_path / "report" / "contact_sheet.jpg") as sheet:
        assert sheet.width > 500


def test_added_photos_do_not_move_others(make_photos, go, tmp_path):
    go(make_photos(60), "before")
    go(make_photos(60, first=60), "after")
    before, after = split_by_path(tmp_path / "before"), split_by_path(tmp_path / "after")
    assert len(after) == 2 * len(before)
    assert all(after[path] == split for path, split in before.items())


def test_the_same_photos_give_the_same_bytes_and_digest(make_photos, go, tmp_path):
    raw = make_photos(40)
    go(raw, "a")
    go(raw, "b")
    files = [file.relative_to(tmp_path / "a") for file in sorted((tmp_path / "a").rglob("*.*"))]
    assert {file.suffix for file in files} == {".npy", ".json"}
    for name in files:
        assert (tmp_path / "a" / name).read_bytes() == (tmp_path / "b" / name).read_bytes()
    a = Dataset.load(tmp_path / "a")
    assert a.digest("test") == Dataset.load(tmp_path / "b").digest("test")
    assert a.digest("test") != a.digest("val")


def test_bad_files_are_counted_with_their_reason(make_photos, go, tmp_path):
    raw = make_photos(40)
    photo = (raw / "red" / "000.png").read_bytes()
    (raw / "red" / "note.jpg").write_text("no photo")
    (raw / "red" / "short.jpg").write_bytes(encode(coloured(RED, 200, 200))[:2000])
    (raw / "red" / "copy.png").write_bytes(photo)
    shutil.copy(raw / "red" / "001.png", raw / "blue" / "shared.png")
    report = go(raw)
    assert report.dropped == {"unsupported": 1, "broken": 1, "duplicate": 1, "label_conflict": 2}
    assert json.loads((tmp_path / "report" / "report.json").read_text())["dropped"] == report.dropped
    lines = (tmp_path / "report" / "dropped.csv").read_text().splitlines()
    assert any(line.startswith("red/note.jpg,unsupported") for line in lines)
    paths = Dataset.load(tmp_path / "processed").paths
    assert "blue/shared.png" not in paths
    assert "red/001.png" not in paths


def test_a_recompressed_copy_is_not_in_two_splits(make_photos, go, tmp_path):
    raw = make_photos(40)
    for file in sorted((raw / "red").iterdir())[:20]:
        (raw / "red" / f"{file.stem}-again.jpg").write_bytes(encode(pixels_of(file), quality=93))
    report = go(raw, near_duplicate_bits=24)
    assert report.dropped["near_duplicate"] > 0
    splits = split_by_path(tmp_path / "processed")
    for path, split in splits.items():
        assert splits.get(path.replace(".png", "-again.jpg"), split) == split


def test_too_few_photos(make_photos, go, tmp_path):
    with pytest.raises(PipelineError, match="'blue' has 1 usable"):
        go(make_photos(1))
    raw = make_photos(40, folder="one")
    shutil.rmtree(raw / "red")
    with pytest.raises(PipelineError, match="only one class, blue"):
        go(raw)
    with pytest.raises(PipelineError, match="no photos"):
        go(tmp_path / "nothing")


def test_a_class_of_broken_photos_only(make_photos, go):
    raw = make_photos(20)
    for file in (raw / "red").iterdir():
        file.write_bytes(b"\x89PNG\r\n\x1a\n")
    with pytest.raises(PipelineError, match=r"'red' has 0 usable photos.*broken"):
        go(raw)


def test_files_of_two_data_sets_are_rejected(make_photos, go, tmp_path):
    with pytest.raises(PipelineError, match="dvc repro"):
        Dataset.load(tmp_path / "none")
    go(make_photos(30))
    shard = min((tmp_path / "processed").rglob("*.npy"))
    np.save(shard, np.zeros((3, 32, 32, 3), np.uint8))
    with pytest.raises(PipelineError, match="does not hold 32 photos of 32 pixels"):
        Dataset.load(tmp_path / "processed")


def split_and_bytes(pixels, params):
    """The same picture, compressed so that the copies fall into different splits."""
    found = {}
    for quality in range(99, 80, -1):
        data = encode(pixels, quality=quality)
        found.setdefault(split_of(data, params.prepare), data)
    return found


@pytest.mark.parametrize("other", ["red", "blue"])
@pytest.mark.parametrize(("stays", "goes"), [("test", "train"), ("val", "train"), ("test", "val")])
@pytest.mark.parametrize("swapped", [False, True])
def test_of_two_near_duplicates_the_evaluated_one_stays(
    make_photos, go, params, tmp_path, other, stays, goes, swapped
):
    raw = make_photos(40)
    copies: dict[str, bytes] = {}
    for seed in range(1000, 1100):
        copies = split_and_bytes(coloured(RED, 200, 200, seed=seed), params)
        if {stays, goes} <= copies.keys():
            break
    first, last = ("zz.jpg", "aa.jpg") if swapped else ("aa.jpg", "zz.jpg")
    (raw / "red" / first).write_bytes(copies[stays])
    (raw / other / last).write_bytes(copies[goes])
    assert go(raw, near_duplicate_bits=8).dropped == {"near_duplicate": 1}
    splits = split_by_path(tmp_path / "processed")
    assert splits[f"red/{first}"] == stays
    assert f"{other}/{last}" not in splits


def test_photos_of_a_fixed_camera_are_told_from_copies_on_request(make_photos, go):
    raw = make_photos(60)
    scene = coloured(RED, 200, 200, seed=1)
    for number, file in enumerate(sorted(raw.rglob("*.png"))):
        scene[100:108, 100:108] = 2 * number
        file.write_bytes(encode(scene, "PNG"))
    with pytest.raises(PipelineError, match=r"near_duplicate.*prepare.near_duplicate_bits=-1` keeps"):
        go(raw, near_duplicate_bits=16)
    assert go(raw, near_duplicate_bits=-1).dropped == {}


def sparse(seed):
    """A small object on white."""
    pixels = np.full((64, 64, 3), 255, np.uint8)
    y, x = np.random.default_rng(seed).integers(8, 48, 2)
    pixels[y : y + 8, x : x + 8] = (seed, 90, 20)
    return pixels


def gradient(seed):
    ramp = np.linspace(4 * seed, 255, 64).astype(np.uint8)
    return np.broadcast_to(ramp[None, :, None], (64, 64, 3)).copy()


@pytest.mark.parametrize("draw", [sparse, gradient])
def test_pictures_with_little_content_are_not_near_duplicates(make_photos, go, draw):
    raw = make_photos(40)
    for seed in range(40):
        (raw / "red" / f"little-{seed}.png").write_bytes(encode(draw(seed), "PNG"))
    assert go(raw, near_duplicate_bits=16).dropped == {}


def test_a_process_that_reads_the_old_photos_never_gets_others(make_photos, go, tmp_path):
    raw = make_photos(40)
    go(raw)
    data = Dataset.load(tmp_path / "processed")
    before = data.images[:]
    go(raw)
    assert (data.images[:] == before).all()
    go(make_photos(40, first=40))
    with pytest.raises(PipelineError, match="prepared again"):
        data.images[0]
    assert len(Dataset.load(tmp_path / "processed").paths) == 160
    assert len(list((tmp_path / "processed").iterdir())) == 2


def test_without_a_broken_file_the_old_photos_are_elsewhere(make_photos, go, tmp_path):
    """The same pixels in the same order, but in other places of the shards."""
    raw = make_photos(40)
    broken = raw / "blue" / "000-broken.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n")
    go(raw)
    data = Dataset.load(tmp_path / "processed")
    broken.unlink()
    go(raw)
    with pytest.raises(PipelineError, match="prepared again"):
        data.images[40]


def test_photos_of_an_earlier_version_and_of_an_interrupted_run_are_deleted(make_photos, go, tmp_path):
    processed = tmp_path / "processed"
    (processed / ".unfinished-abc").mkdir(parents=True)
    (processed / ".unfinished-abc" / "00000.npy").write_bytes(b"x")
    (processed / "images.npy").write_bytes(b"x")
    (processed / "splits.json").write_text("{}")
    with pytest.raises(PipelineError):
        Dataset.load(processed)
    go(make_photos(20))
    folder, index = sorted(processed.iterdir())
    assert (folder.name[:7], index.name) == ("images-", "splits.json")


def test_dropped_photos_between_others(make_photos, go, tmp_path, monkeypatch):
    monkeypatch.setattr(shards, "PHOTOS_PER_SHARD", 16)
    monkeypatch.setattr(decoding, "PHOTOS_PER_SHARD", 16)  # workers are forks of this process
    raw = make_photos(40)
    for number in range(0, 40, 7):
        (raw / "red" / f"{number:03}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
        shutil.copy(raw / "blue" / f"{number:03}.png", raw / "blue" / f"{number:03}-copy.png")
    report = go(raw)
    assert report.dropped == {"broken": 6, "duplicate": 6}
    data = Dataset.load(tmp_path / "processed")
    assert data.images.shape == (74, 32, 32, 3)
    for path, image in zip(data.paths, data.images[:], strict=True):
        assert (image == read((raw / path).read_bytes(), 32).pixels).all()


@contextlib.contextmanager
def no_file_over(limit):
    """Let this process and its children write files of at most so many bytes, as a full disk would."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    signal_before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, signal_before)


def test_a_disk_that_takes_no_more(make_photos, go, tmp_path):
    raw = make_photos(40)
    go(raw)
    with no_file_over(50_000), pytest.raises(PipelineError, match=r"processed: File too large"):
        go(raw)
    assert list((tmp_path / "processed").iterdir()) == []


def test_a_disk_that_is_too_small(make_photos, go, tmp_path, monkeypatch):
    raw = make_photos(40)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: SimpleNamespace(free=200_000))
    with pytest.raises(PipelineError, match=r"80 photos of 32 pixels need 0\.0 GB.*lower prepare.image_size"):
        go(raw)


def test_an_interrupted_run_leaves_no_data_set(make_photos, go, tmp_path, monkeypatch):
    raw = make_photos(40)
    go(raw)
    for step in ("assign_splits", "_write_report", "_contact_sheet"):
        with monkeypatch.context() as patch:
            patch.setattr(prepare, step, interrupt)
            with pytest.raises(KeyboardInterrupt):
                go(raw)
        with pytest.raises(PipelineError, match="dvc repro"):
            Dataset.load(tmp_path / "processed")
    go(raw)
    assert len(Dataset.load(tmp_path / "processed").paths) == 80


def interrupt(*_, **__):
    raise KeyboardInterrupt


def test_workers_end_with_a_killed_run(make_photos, tmp_path, params):
    """The next run must not share its folder with them."""
    raw = make_photos(40)
    code = (
        "import os, sys, time; from pathlib import Path; from ml.data import decode, prepare\n"
        "from ml import params\n"
        "def wait(*_):\n"
        "    print(os.getpid(), flush=True); time.sleep(1000)\n"
        "decode.read = wait\n"
        "prepare.run(params.load().prepare, Path(sys.argv[1]), Path(sys.argv[2]), Path(sys.argv[3]))"
    )
    arguments = [sys.executable, "-c", code, raw, tmp_path / "processed", tmp_path / "report"]
    with subprocess.Popen(arguments, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=ROOT) as run:
        worker = int(run.stdout.readline())
        run.kill()
        try:
            run.communicate(timeout=HANG_S)  # which reads until all that have the pipe open have ended
        except subprocess.TimeoutExpired:
            os.kill(worker, signal.SIGKILL)
            raise
    with pytest.raises(PipelineError):
        Dataset.load(tmp_path / "processed")


def test_a_killed_worker_and_one_out_of_memory(make_photos, go, monkeypatch):
    raw = make_photos(20)

    def full(*_):
        raise MemoryError

    monkeypatch.setattr(decode, "read", full)  # workers are forks of this process
    with pytest.raises(PipelineError, match=r"0 usable photos.*'unreadable': 40"):
        go(raw)
    monkeypatch.setattr(decode, "read", lambda *_: os._exit(9))
    with pytest.raises(PipelineError, match="killed"):
        go(raw)


def test_an_empty_class_and_hidden_files(make_photos, go):
    raw = make_photos(40)
    (raw / "red" / ".DS_Store").write_text("x")
    (raw / ".cache").mkdir()
    (raw / ".cache" / "a.png").write_text("x")
    assert go(raw).dropped == {}
    (raw / "green").mkdir()
    with pytest.raises(PipelineError, match="'green' has 0 usable photos"):
        go(raw)


def test_the_contact_sheet_with_many_classes(tmp_path):
    nothing = np.zeros((0, 32, 32, 3), np.uint8)
    prepare._contact_sheet(nothing, [], [f"class {n}" for n in range(400)], tmp_path / "sheet.jpg")
    assert (tmp_path / "sheet.jpg").is_file()


def test_an_empty_array_file(make_photos, go, tmp_path):
    go(make_photos(40))
    shard = min((tmp_path / "processed").rglob("*.npy"))
    shard.write_bytes(b"")
    with pytest.raises(PipelineError, match="dvc repro"):
        Dataset.load(tmp_path / "processed")


@pytest.mark.parametrize("count", [10, 13, 20, 40])
def test_every_split_of_a_small_class_has_photos(make_photos, go, tmp_path, count):
    report = go(make_photos(count))
    for counts in report.kept.values():
        assert sum(counts.values()) == count
        assert min(counts["val"], counts["test"]) >= max(1, count // 20)
        assert counts["train"] >= count / 2


def test_the_split_of_the_owner(make_photos, go, tmp_path):
    raw = make_photos(40)
    evaluated = {f"{name}/{number:03}.png" for name in ("blue", "red") for number in range(12)}
    paths = [f"{name}/{number:03}.png" for name in ("blue", "red") for number in range(40)]
    own = {path: "test" if path in evaluated else "train" for path in paths}
    shutil.copy(raw / "red/020.png", raw / "red/000.png")  # the same photo in train and test
    (raw / OWN_SPLITS).write_text(json.dumps(own))
    go(raw)
    splits = split_by_path(tmp_path / "processed")
    assert {path for path, split in splits.items() if split == "test"} == evaluated
    assert "red/020.png" not in splits
    assert {splits[path] for path in splits.keys() - evaluated} == {"train", "val"}


@pytest.mark.parametrize(
    ("size", "arch", "body", "expected"),
    [
        (0, "efficientnet_lite2", "", 260),
        (0, "torchvision", "efficientnet_b3", 300),
        (96, "efficientnet_lite2", "", 96),
    ],
)
def test_photos_get_the_size_that_suits_the_architecture(params, size, arch, body, expected):
    plain = params.model_dump()
    plain["prepare"]["image_size"] = size
    plain["train"] |= {"arch": arch, "body": body}
    assert prepare.image_size(Params.model_validate(plain)) == expected


def test_the_command_says_what_it_dropped(make_photos, run_ml, tmp_path):
    raw = make_photos(12, folder="data/raw")
    copy_params(tmp_path)
    for number in range(2):
        (raw / "red" / f"short-{number}.png").write_bytes(b"\x89PNG\r\n\x1a\n")
    done = run_ml("prepare", folder=tmp_path)
    assert done.returncode == 0
    assert done.stdout.splitlines() == [
        "kept: blue 12, red 12; dropped: broken 2",
        "reports/prepare/dropped.csv lists the dropped photos",
    ]
