"""Prepared photos in an object store: fetched when they are used, kept on disk up to a limit."""

import argparse
import json
import pickle
import shutil
from pathlib import Path

import fsspec
import numpy as np
import pytest

from ml.data import ingest, share
from ml.data.dataset import Dataset
from ml.data.remote import CACHE
from ml.model.errors import PipelineError
from tests.helpers import s3
from tests.helpers.prepared import write_prepared

PHOTOS = 70  # in three shards
SIZE = 32
URL = "memory://bucket/photos"


@pytest.fixture
def images(tmp_path, monkeypatch):
    """Prepared photos in data/processed, and an empty object store."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("PREPARED_URL", raising=False)
    monkeypatch.delenv("PREPARED_CACHE_GB", raising=False)
    fsspec.filesystem("memory").store.clear()
    return write(0)


def write(seed, folder="data/processed"):
    pixels = np.random.default_rng(seed).integers(0, 256, (PHOTOS, SIZE, SIZE, 3), np.uint8)
    entry = {"label": 0, "split": "train", "size": [SIZE, SIZE]}
    photos = [entry | {"path": f"a/{row}", "sha256": f"{seed}-{row}"} for row in range(PHOTOS)]
    write_prepared(pixels, photos, ["a", "b"], Path(folder))
    return pixels


def test_shared_photos_are_those_that_were_prepared(images, monkeypatch):
    assert share.run(URL) == 3
    monkeypatch.setenv("PREPARED_URL", f"{URL}/")
    shutil.rmtree("data/processed")
    data = Dataset.load()
    read = pickle.loads(pickle.dumps(data.images))  # as for the workers
    for key in (0, PHOTOS - 1, -1, slice(3, 19, 4), np.array([65, 2, 2, 31, 32]), np.arange(0)):
        for _ in range(2):  # fetched, then from the cache
            assert (read[key] == images[key]).all()
            assert read[key].shape == images[key].shape
    with pytest.raises(IndexError):
        read[PHOTOS]


def test_a_folder_that_machines_share(images, tmp_path, monkeypatch):
    share.run(str(tmp_path / "network"))
    monkeypatch.setenv("PREPARED_URL", str(tmp_path / "network"))
    shutil.rmtree("data/processed")
    assert (Dataset.load().images[:] == images).all()
    assert not CACHE.exists()


def test_the_list_in_a_shared_folder_is_replaced_as_a_whole(images, tmp_path, capsys):
    """A full disk or a kill must leave the earlier list, which training uses."""
    network = tmp_path / "net work"
    share.run(str(network))
    before = (network / "splits.json").read_bytes()
    (tmp_path / "earlier").hardlink_to(network / "splits.json")
    shutil.rmtree("data/processed")
    write(1)
    share.main(argparse.Namespace(url=str(network)))
    assert (tmp_path / "earlier").read_bytes() == before != (network / "splits.json").read_bytes()
    assert f"export PREPARED_URL='{network}'" in capsys.readouterr().out


def test_a_photo_is_fetched_once(images):
    downloaded = ingest.CACHE / "oxford-iiit-pet" / "photo.jpg"
    downloaded.parent.mkdir(parents=True)
    downloaded.touch()
    share.run(URL)
    data = Dataset.load(URL)
    assert (data.images[np.arange(40)] == images[:40]).all()
    fsspec.filesystem("memory").store.clear()
    assert (data.images[np.arange(40)] == images[:40]).all()
    assert downloaded.exists()
    with pytest.raises(PipelineError, match=rf"{URL}/images-made-up cannot be used"):
        data.images[40]


def test_a_shard_that_is_cut_off_later_is_an_error(images):
    share.run(URL)
    data = Dataset.load(URL)
    store = fsspec.filesystem("memory")
    (last,) = [name for name in store.find(URL) if name.endswith("00002.npy")]
    store.pipe_file(last, store.cat_file(last)[:-1])
    assert (data.images[PHOTOS - 2] == images[PHOTOS - 2]).all()
    with pytest.raises(PipelineError, match="has a shard that is too short: copy the photos there again"):
        data.images[PHOTOS - 1]


def test_the_cache_has_a_limit(images, monkeypatch):
    monkeypatch.setenv("PREPARED_CACHE_GB", str(10.5 * SIZE * SIZE * 3 / 1e9))
    share.run(URL)
    read = Dataset.load(URL).images
    for _ in range(3):
        assert (read[:] == images).all()
    assert 0 < len([path for path in CACHE.rglob("*") if path.is_file()]) <= 10
    monkeypatch.setenv("PREPARED_CACHE_GB", "0")
    shutil.rmtree(CACHE)
    assert (Dataset.load(URL).images[:] == images).all()
    assert not CACHE.exists()
    for wrong in ("x", "-1", "nan", "inf"):
        monkeypatch.setenv("PREPARED_CACHE_GB", wrong)
        with pytest.raises(PipelineError, match=f"PREPARED_CACHE_GB={wrong}: expected"):
            Dataset.load(URL)


def test_a_broken_cache_costs_only_time(images):
    share.run(URL)
    read = Dataset.load(URL).images
    assert (read[:] == images).all()
    kept = sorted(path for path in CACHE.rglob("*") if path.is_file())
    kept[0].write_bytes(b"cut off")
    kept[1].unlink()
    assert (read[:] == images).all()
    shutil.rmtree(CACHE)
    CACHE.write_text("a file where the folder should be")
    assert (read[:] == images).all()


def test_photos_that_were_prepared_again(images):
    """They take the place of the others in the cache; trainings that still use those go on."""
    share.run(URL)
    old = Dataset.load(URL).images
    old[0]
    shutil.rmtree("data/processed")
    images2 = write(1)
    Path("data/processed/images-made-up").rename("data/processed/images-again")
    index = Path("data/processed/splits.json")
    index.write_text(json.dumps(json.loads(index.read_text()) | {"images": "images-again"}))
    share.run(URL)
    new = Dataset.load(URL).images
    assert (new[:] == images2).all()
    assert [path.name for path in CACHE.iterdir()] == ["images-again"]
    assert (old[:] == images).all()


@pytest.mark.parametrize("url", ["", "/", "s3://", "gs:///"])
def test_an_address_without_a_bucket_is_refused(images, tmp_path, monkeypatch, url):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(PipelineError, match="the address is empty, or names no bucket"):
        share.main(argparse.Namespace(url=url))
    assert not list(tmp_path.glob("s3:"))


def test_an_interrupted_copy_goes_on(images):
    share.run(URL)
    store = fsspec.filesystem("memory").store
    whole = {path: file.getvalue() for path, file in store.items()}
    (first, second, _) = sorted(path for path in store if path.endswith(".npy"))
    del store[first]
    store[second].seek(0)
    store[second].truncate(1000)
    with pytest.raises(PipelineError, match="does not hold 32 photos"):
        Dataset.load(URL)
    assert share.run(URL) == 2
    assert {path: file.getvalue() for path, file in store.items()} == whole
    assert share.run(URL) == 0


@pytest.mark.parametrize(
    ("url", "message"),
    [
        ("memory://bucket/none", "memory://bucket/none/splits.json cannot be used"),
        ("nonsense://bucket", "Protocol not known: nonsense"),
    ],
)
def test_a_store_without_photos(images, url, message):
    with pytest.raises(PipelineError, match=message):
        Dataset.load(url)


@pytest.mark.parametrize("name", ["images-a/../../x", "..", "images-..", "x"])
def test_a_hostile_index_makes_no_folder_elsewhere(images, name):
    share.run(URL)
    store = fsspec.filesystem("memory")
    index = json.loads(store.cat_file(f"{URL}/splits.json")) | {"images": name}
    store.pipe_file(f"{URL}/splits.json", json.dumps(index).encode())
    with pytest.raises(PipelineError, match="no folder of prepared photos"):
        Dataset.load(URL)


def test_one_request_per_photo(images, tmp_path, monkeypatch):
    with s3.bucket(tmp_path, monkeypatch) as bucket:
        url = f"{bucket.url}/v1"
        share.main(type("Arguments", (), {"url": f"{url}/"}))
        assert (Dataset.load(url).images[np.array([69, 3, 40])] == images[[69, 3, 40]]).all()
        paths = bucket.requests("GET", 206)
        assert sorted(paths) == [f"/photos/v1/images-made-up/{number:05d}.npy" for number in (0, 1, 2)]
        with pytest.raises(PipelineError, match=r"s3://nowhere/splits\.json cannot be used"):
            Dataset.load("s3://nowhere")
    with pytest.raises(PipelineError, match="cannot be used"):  # the server is gone
        Dataset.load(url)
