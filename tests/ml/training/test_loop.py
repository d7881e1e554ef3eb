"""The training loop: its best weights, its saved state, its batches and its schedule."""

import itertools
import pickle
from pathlib import Path

import pytest
import torch
from lightning_fabric import Fabric
from lightning_fabric.plugins import MixedPrecision
from torchvision.transforms import v2

from ml.data import ingest, prepare
from ml.data.dataset import Dataset
from ml.model.networks import build
from ml.params import Params
from ml.training.batches import EpochSampler, Photos
from ml.training.loop import Loop, image_size_at, learning_rate_factor
from ml.training.train import make_fabric
from tests.helpers.killed_training import KilledError, killed_after_an_epoch


@pytest.fixture
def make_loop(make_photos, params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    ingest.run(params.ingest.model_copy(update={"source": str(make_photos())}))
    prepare.run(params.prepare)

    def make(fabric=None, state="state.pt", **recipe: object) -> Loop:
        plain = params.model_dump()
        plain["recipes"]["simple_cnn"] |= recipe
        changed = Params.model_validate(plain)
        torch.manual_seed(0)
        network = build("simple_cnn", 2)
        return Loop(fabric or make_fabric("32-true"), network, Dataset.load(), changed.recipe, 1, Path(state))

    return make


def test_the_weights_with_the_lowest_validation_loss_are_kept(make_loop, monkeypatch):
    losses = [0.5, 0.3, 0.3]  # the second 0.3 is not lower
    loop, remaining, seen = make_loop(epochs=len(losses)), iter(losses), []

    def validate(self):
        seen.append({name: value.clone() for name, value in self.bare_network.state_dict().items()})
        return {"val_loss": next(remaining), "val_accuracy": 0.5}

    monkeypatch.setattr(Loop, "_validate", validate)
    progress = loop.run()
    assert progress.epoch == len(progress.history) == len(seen) == len(losses)
    assert all(torch.equal(progress.best_weights[name], seen[1][name]) for name in seen[1])
    trained = "features.0.weight"
    assert all(not torch.equal(one[trained], other[trained]) for one, other in itertools.pairwise(seen))


@pytest.mark.filterwarnings(
    "ignore::UserWarning"
)  # the scaler skips steps, of which the schedule knows nothing
def test_a_resumed_run_has_the_scale_of_the_gradients(make_loop):
    """With 16-mixed, the scale of the gradients is part of the state: it grows and shrinks over the steps."""

    def half_precision() -> Fabric:
        scaler = torch.amp.GradScaler("cpu", init_scale=2.0**8, growth_interval=3)
        return Fabric(accelerator="cpu", plugins=MixedPrecision("16-mixed", "cpu", scaler))

    unbroken = make_loop(half_precision(), "unbroken.pt", epochs=2).run()
    with killed_after_an_epoch():
        make_loop(half_precision(), epochs=2).run()
    precision = torch.load("state.pt", weights_only=True)["precision"]
    assert precision["scale"] > 2.0**8
    loop = make_loop(half_precision(), epochs=2)
    resumed = loop.run()
    assert loop.fabric.strategy.precision.scaler.get_scale() > precision["scale"]
    assert resumed.history == unbroken.history
    assert all(
        torch.equal(resumed.best_weights[name], value) for name, value in unbroken.best_weights.items()
    )


def test_a_kill_while_the_state_is_written_leaves_the_previous_state(make_loop, monkeypatch):
    loop = make_loop(epochs=1)
    loop.run()
    before = Path("state.pt").read_bytes()

    def die_half_way(path, state):
        Path(path).write_bytes(before[:1000])
        raise KilledError

    monkeypatch.setattr(loop.fabric, "save", die_half_way)
    with pytest.raises(KilledError):
        loop._save()
    assert Path("state.pt").read_bytes() == before


def test_a_worker_reads_the_photos_itself(make_loop):
    data = make_loop().data
    sent = pickle.dumps(Photos(data, v2.Identity()))
    assert len(sent) < data.images[:].nbytes / 10
    for photos in (pickle.loads(sent), pickle.loads(pickle.dumps(pickle.loads(sent)))):
        assert (photos[0, 3][0].numpy() == data.images[3]).all()


def test_photos_grow_to_full_size():
    sizes = [image_size_at(epoch, 5, 96, 224) for epoch in range(5)]
    assert sizes == [96, 128, 160, 192, 224]
    assert {image_size_at(epoch, 7, 100, 224) % 32 for epoch in range(6)} == {100 % 32}
    assert [image_size_at(epoch, 3, 0, 224) for epoch in range(3)] == [224] * 3
    assert image_size_at(0, 1, 96, 224) == 224  # the only epoch is the last
    assert [image_size_at(epoch, 130, 64, 80) for epoch in (0, 128, 129)] == [64, 64, 80]  # half a step


def test_the_learning_rate_rises_and_then_falls_to_zero():
    factors = [learning_rate_factor(step, 100, 0.1) for step in range(101)]
    assert factors[:10] == sorted(factors[:10])
    assert factors[0] > 0
    assert max(factors) == factors[10] == 1
    assert factors[10:] == sorted(factors[10:], reverse=True)
    assert factors[-1] == pytest.approx(0, abs=1e-12)


def test_photos_of_a_rare_class_are_used_again_augmented_differently(make_loop):
    loop = make_loop(class_balance=1.0, batch_size=8)
    rows = loop.data.rows("train")
    loop.data.labels[rows[:-6]], loop.data.labels[rows[-6:]] = 0, 1
    sampler = EpochSampler(loop.data, 8, 1.0, 1, 0, 1)
    keys = list(itertools.chain.from_iterable(sampler))
    assert len(keys) == len(set(keys)) == len(rows) // 8 * 8
    rare = [row for _, row in keys if row in rows[-6:]]
    assert len(rare) == pytest.approx(len(keys) / 2, abs=8)
    assert len(set(rare)) == 6
    assert keys == list(itertools.chain.from_iterable(sampler))  # repeatable
    shared = [list(EpochSampler(loop.data, 8, 1.0, 1, rank, 2)) for rank in range(2)]
    assert [sorted(one + other) for one, other in zip(*shared, strict=True)] == [
        sorted(one) for one in sampler
    ]
