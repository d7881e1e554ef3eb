"""A training by several processes of torchrun: the same result, from an object store, after kills."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ruamel.yaml import YAML

from ml.data import share
from ml.params import Params
from ml.training.batches import EpochSampler
from tests.helpers import s3
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S, until

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]


def write_params(params, **recipe):
    """Write params.yaml with a changed recipe, and return the parameters."""
    plain = params.model_dump()
    plain["recipes"]["simple_cnn"] |= recipe
    changed = Params.model_validate(plain)
    with Path("params.yaml").open("w") as file:
        YAML().dump(json.loads(changed.model_dump_json()), file)
    return changed


@contextlib.contextmanager
def torchrun(*options, **env):
    """Start `python -m ml train` in processes; stop what is left of them at the end."""
    command = [sys.executable, "-m", "torch.distributed.run", "--local-addr", "127.0.0.1", *options]
    process = subprocess.Popen(
        [*command, "-m", "ml", "train"],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1", **env},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGTERM)
        process.communicate(timeout=HANG_S)


def output_of(process):
    output, _ = process.communicate(timeout=5 * HANG_S)
    assert process.returncode == 0, output
    return output


def history():
    return json.loads(Path("models/history.json").read_text())["history"]


def weights():
    return torch.load("models/checkpoint.pt", weights_only=True)["state_dict"]


def workers_of(agent):
    """Return the processes that train, whose parent is torchrun."""
    pids = Path(f"/proc/{agent}/task/{agent}/children").read_text().split()
    return sorted(int(pid) for pid in pids if b"ml" in Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0"))


def finished_epochs():
    """Return how many epochs the saved state contains."""
    for state in Path("models").glob("unfinished-*.pt"):
        return torch.load(state, weights_only=True)["progress"]["epoch"]
    return 0


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="finds the processes in /proc")
def test_four_processes_train_as_one_and_one_of_them_may_be_killed(data, params):
    write_params(params, epochs=4)
    with torchrun("--standalone", "--nproc-per-node", "1") as alone:
        output_of(alone)
    one = history()
    with torchrun("--standalone", "--nproc-per-node", "4") as unbroken:
        output_of(unbroken)
    four, expected = history(), weights()
    assert len(four) == len(one) == 4
    assert four[-1]["val_accuracy"] == pytest.approx(one[-1]["val_accuracy"], abs=0.1)
    assert four[-1]["train_loss"] == pytest.approx(one[-1]["train_loss"], abs=0.1)

    shutil.rmtree("models")
    with torchrun("--standalone", "--nproc-per-node", "4", "--max-restarts", "2") as killed:
        until(finished_epochs)
        os.kill(workers_of(killed.pid)[2], signal.SIGKILL)
        output = output_of(killed)
    assert "Signal 9 (SIGKILL)" in output
    assert "epoch 1/4" in output
    assert history() == four
    assert all(torch.equal(expected[name], value) for name, value in weights().items())
    assert not list(Path("models").glob("unfinished*"))


def test_two_processes_read_their_parts_from_an_object_store(data, params, tmp_path, monkeypatch):
    """Without a cache, each photo is fetched by the one process that uses it, and by no other."""
    epochs = 2
    recipe = write_params(params, epochs=epochs).recipe
    with s3.bucket(tmp_path, monkeypatch) as bucket:
        share.run(bucket.url)
        shutil.move("data/processed", "data/elsewhere")
        with torchrun("--standalone", "--nproc-per-node", "2", PREPARED_URL=bucket.url) as cached:
            output_of(cached)
        with_cache, result = len(bucket.requests("GET", 206)), weights()
        environment = {"PREPARED_URL": bucket.url, "PREPARED_CACHE_GB": "0"}
        with torchrun("--standalone", "--nproc-per-node", "2", **environment) as uncached:
            output_of(uncached)
        without_cache = len(bucket.requests("GET", 206)) - with_cache
    used = [key for rank in range(2) for key in keys(data, recipe, params.train.seed, rank, epochs)]
    assert without_cache == len(used) + epochs * len(data.rows("val"))
    assert len({row for _, row in used}) <= with_cache - len(data.rows("val")) < 0.8 * len(used)
    assert all(torch.equal(result[name], value) for name, value in weights().items())
    Path("data/elsewhere").rename("data/processed")
    with torchrun("--standalone", "--nproc-per-node", "2") as local:
        output_of(local)
    assert all(torch.equal(result[name], value) for name, value in weights().items())


def keys(data, recipe, seed, rank, epochs):
    """Return the epoch and the row of each photo that one of two processes trains with."""
    sampler = EpochSampler(data, recipe.batch_size, recipe.class_balance, seed, rank, 2)
    for epoch in range(epochs):
        sampler.epoch = epoch
        yield from ((epoch, row) for batch in sampler for _, row in batch)
