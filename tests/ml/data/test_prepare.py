"""Splits are stable, and unusable photos are counted instead of stopping the stage."""

import hashlib
import json
import os
import shutil

import numpy as np
import pytest
from PIL import Image

from ml.data import prepare
from ml.data.dataset import Dataset
from ml.data.ingest import OWN_SPLITS
from ml.model.errors import PipelineError
from ml.params import Params
from tests.conftest import RED, coloured, encode


@pytest.fixture
def go(tmp_path, params):
    def run(raw, out="processed", **changes):
        chosen = params.prepare.model_copy(update=changes)
        return prepare.run(chosen, raw, tmp_path / out, tmp_path / "report")

    return run


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
    for name in ("images.npy", "splits.json"):
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
    np.save(tmp_path / "processed" / "images.npy", np.zeros((3, 32, 32, 3), np.uint8))
    with pytest.raises(PipelineError, match="belong together"):
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


def test_a_process_that_reads_the_old_photos_keeps_them(make_photos, go, tmp_path):
    go(make_photos(40))
    data = Dataset.load(tmp_path / "processed")
    before = data.images[:].copy()
    go(make_photos(40, first=40))
    assert (data.images == before).all()
    assert len(Dataset.load(tmp_path / "processed").paths) == 160
    assert sorted(p.name for p in (tmp_path / "processed").iterdir()) == ["images.npy", "splits.json"]


def test_a_killed_worker_and_one_out_of_memory(make_photos, go, monkeypatch):
    raw = make_photos(20)

    def full(*_):
        raise MemoryError

    monkeypatch.setattr(prepare, "read", full)  # workers are forks of this process
    with pytest.raises(PipelineError, match=r"0 usable photos.*'unreadable': 40"):
        go(raw)
    monkeypatch.setattr(prepare, "read", lambda *_: os._exit(9))
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
    (tmp_path / "processed" / "images.npy").write_bytes(b"")
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
