"""The loop's schedule, its end, and the sizes of its photos."""

import itertools
import pickle
from pathlib import Path

import pytest
import torch

from ml import ingest, prepare
from ml.dataset import Dataset
from ml.networks import build
from ml.params import Params
from ml.training.batches import Photos
from ml.training.loop import Loop, make_fabric, rate, size_of


def test_photos_grow_to_full_size():
    sizes = [size_of(epoch, 5, 96, 224) for epoch in range(5)]
    assert sizes == [96, 128, 160, 192, 224]
    assert {size_of(epoch, 7, 100, 224) % 32 for epoch in range(6)} == {100 % 32}
    assert [size_of(epoch, 3, 0, 224) for epoch in range(3)] == [224] * 3
    assert size_of(0, 1, 96, 224) == 224  # the only epoch is the last


def test_the_rate_climbs_then_falls_to_nothing():
    rates = [rate(step, 100, 0.1) for step in range(101)]
    assert rates[:10] == sorted(rates[:10])
    assert rates[0] > 0
    assert max(rates) == rates[10] == 1
    assert rates[10:] == sorted(rates[10:], reverse=True)
    assert rates[-1] == pytest.approx(0, abs=1e-12)


@pytest.fixture
def make_loop(make_photos, params, tmp_path, monkeypatch):
    def make(**recipe: object) -> Loop:
        monkeypatch.chdir(tmp_path)
        ingest.run(params.ingest.model_copy(update={"source": str(make_photos())}))
        prepare.run(params.prepare)
        plain = params.model_dump()
        plain["recipes"]["simple_cnn"] |= recipe
        changed = Params.model_validate(plain)
        network = build("simple_cnn", 2)
        return Loop(make_fabric("32-true"), network, Dataset.load(), changed.recipe, 1, Path("state.pt"))

    return make


LOSSES = [0.5, 0.4, 0.6, 0.3, 0.3, 0.7]  # an equal one is no better


@pytest.mark.parametrize(("patience", "epochs"), [(0, 6), (1, 3), (2, 6)])
def test_it_stops_when_validation_has_stopped_improving(make_loop, monkeypatch, patience, epochs):
    loop = make_loop(epochs=len(LOSSES) + (patience > 0), early_stopping=patience)
    losses = iter(LOSSES)
    seen = []

    def validate(self):
        seen.append({name: value.clone() for name, value in self.bare.state_dict().items()})
        return {"val_loss": next(losses), "val_accuracy": 0.5}

    monkeypatch.setattr(Loop, "_validate", validate)
    progress = loop.run()
    assert progress.epoch == len(progress.history) == len(seen) == epochs
    best = LOSSES.index(min(LOSSES[:epochs]))
    assert all(torch.equal(progress.weights[name], seen[best][name]) for name in seen[best])
    changed = [
        not torch.equal(one["features.0.weight"], other["features.0.weight"])
        for one, other in itertools.pairwise(seen)
    ]
    assert all(changed)


def test_a_worker_maps_the_photos_that_its_parent_maps(make_loop):
    data = make_loop().data
    sent = pickle.dumps(Photos(data))
    assert len(sent) < data.images.nbytes / 10
    for photos in (pickle.loads(sent), pickle.loads(pickle.dumps(pickle.loads(sent)))):
        assert (photos[0, 3][0].numpy() == data.images[3]).all()
        assert not photos.images.flags.writeable
