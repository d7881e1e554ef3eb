"""Shards hold the photos that were written to them, and say when they no longer do."""

import pickle
import threading

import numpy as np
import pytest

from ml.data import shards
from ml.data.shards import Shards, ShardWriter, shard_path
from ml.model.errors import PipelineError


@pytest.fixture
def images(tmp_path, monkeypatch):
    """23 photos in shards of 5."""
    monkeypatch.setattr(shards, "PHOTOS_PER_SHARD", 5)
    pixels = np.random.default_rng(0).integers(0, 256, (23, 8, 8, 3), np.uint8)
    for number in range(5):
        with ShardWriter(shard_path(tmp_path, number), 8) as shard:
            for image in pixels[5 * number : 5 * number + 5]:
                shard.add(image)
    return pixels


def test_they_are_indexed_like_an_array(images, tmp_path):
    read = Shards(tmp_path, np.arange(23), 8)
    read.check([5, 5, 5, 5, 3])
    assert read.shape == images.shape
    assert len(read) == 23
    for key in (0, 22, -1, np.int64(7), slice(None), slice(3, 19, 4), np.array([9, 2, 2, 22]), np.arange(0)):
        assert (read[key] == images[key]).all()
        assert read[key].shape == images[key].shape
    with pytest.raises(IndexError):
        read[23]
    for number in range(5):
        assert (np.load(shard_path(tmp_path, number)) == images[5 * number : 5 * number + 5]).all()


def test_some_rows_of_them(images, tmp_path):
    rows = np.array([20, 3, 11])
    read = Shards(tmp_path, rows, 8)
    assert (read[:] == images[rows]).all()
    assert (pickle.loads(pickle.dumps(read))[1] == images[3]).all()


def test_threads_can_share_them(images, tmp_path):
    read, wrong = Shards(tmp_path, np.arange(23), 8), []

    def work(seed):
        for row in np.random.default_rng(seed).integers(0, 23, 300):
            if not (read[row] == images[row]).all():
                wrong.append(row)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not wrong


@pytest.mark.parametrize("counts", [[5, 5, 5, 5, 2], [5, 5, 5, 5], [5, 5, 5, 4, 3], [5, 5, 5, 5, 3, 1]])
def test_other_files_than_expected(images, tmp_path, counts):
    with pytest.raises((PipelineError, LookupError, OSError)):
        Shards(tmp_path, np.arange(23), 8).check(counts)


def test_photos_that_are_gone(images, tmp_path):
    read = Shards(tmp_path, np.arange(23), 8)
    shard_path(tmp_path, 1).write_bytes(shard_path(tmp_path, 1).read_bytes()[:-1])
    with pytest.raises(PipelineError, match="too short"):
        read[np.arange(23)]
    shard_path(tmp_path, 0).unlink()
    with pytest.raises(PipelineError, match="prepared again"):
        read[0]
