"""A training by several processes of torchrun: the same result, from an object store, and after a kill."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest
import torch
from ruamel.yaml import YAML

from ml.data import share
from ml.data.dataset import Dataset
from ml.model.errors import PipelineError
from ml.params import Params
from ml.training import batches, train
from ml.training.batches import EpochSampler
from ml.training.processes import check_restarts
from tests.helpers import s3
from tests.helpers.paths import ROOT
from tests.helpers.training_processes import PROCESSES
from tests.helpers.waiting import HANG_S, until

pytestmark = [
    pytest.mark.filterwarnings("ignore::DeprecationWarning"),
    pytest.mark.filterwarnings("ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::UserWarning"),
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
]

EPOCHS, KILLED = 3, 2


class Result(NamedTuple):
    """What a training wrote, and the epochs that its first process began."""

    history: list[dict]
    weights: dict[str, torch.Tensor]
    epochs: list[int]


def result(folder: Path) -> Result:
    checkpoint = torch.load(folder / "models/checkpoint.pt", weights_only=True)
    assert not list(folder.glob("models/unfinished*"))
    epochs = folder / "epochs.txt"
    begun = [int(line) for line in epochs.read_text().split()] if epochs.exists() else []
    history = json.loads((folder / "models/history.json").read_text())["history"]
    return Result(history, checkpoint["state_dict"], begun)


def photos_used(data: Dataset, params: Params, rank: int) -> int:
    """Return how many photos one of the processes trains with in all epochs."""
    recipe, seed = params.recipe, params.train.seed
    sampler = EpochSampler(data, recipe.batch_size, recipe.class_balance, seed, rank, PROCESSES)
    return EPOCHS * sum(len(batch) for batch in sampler)


def test_processes_train_as_one(data, params, tmp_path, monkeypatch):
    """Photos from an object store, or from disk and with a killed process: the result is the same."""
    plain = params.model_dump()
    plain["recipes"]["simple_cnn"]["epochs"] = EPOCHS
    params = Params.model_validate(plain)
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlflow.db")
    with s3.bucket(tmp_path, monkeypatch) as bucket:
        share.run(bucket.url)
        stored = {"PREPARED_URL": bucket.url, "PREPARED_CACHE_GB": "0"}
        local = {"PREPARED_URL": str(tmp_path / "data/processed")}
        runs = [("killed", local, KILLED), ("stored", stored, None)]
        for name, _, _ in runs:
            Path(name).mkdir()
            with (Path(name) / "params.yaml").open("w") as file:
                YAML().dump(json.loads(params.model_dump_json()), file)
        fetched = len(bucket.requests("GET", 206))
        started = [(str(tmp_path / name), variables, killed) for name, variables, killed in runs]
        code = f"from tests.helpers.training_processes import main; main({json.dumps(started)!r})"
        processes = subprocess.run(
            [sys.executable, "-c", code],
            cwd=ROOT,
            env=os.environ | {"OMP_NUM_THREADS": "1", "TORCH_DISABLE_SHARE_RDZV_TCP_STORE": "1"},
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=5 * HANG_S,
        )
        assert processes.returncode == 0, processes.stdout
        fetched = len(bucket.requests("GET", 206)) - fetched
    killed, four = (result(tmp_path / name) for name, _, _ in runs)

    monkeypatch.setattr(batches, "loading_workers", lambda world: (0, None))  # the same photos, sooner
    train.run(params)
    one = result(tmp_path)
    assert len(four.history) == len(one.history) == EPOCHS
    for name in ("train_loss", "val_loss", "val_accuracy"):
        assert four.history[-1][name] == pytest.approx(one.history[-1][name], abs=0.1)

    # torchrun may report one of the others first, which lost their connection.
    assert Path("killed/killed.txt").exists()
    assert four.epochs == list(range(EPOCHS))
    assert (killed.epochs.count(0), killed.epochs[-1]) == (1, EPOCHS - 1)  # it went on after the first epoch
    # Each photo was fetched by the process that used it, and by no other. At the end, the first process
    # measures the mean of the weights on the validation split.
    used = sum(photos_used(data, params, rank) for rank in range(PROCESSES))
    assert fetched == used + (EPOCHS + 1) * len(data.rows("val"))
    assert killed.history == four.history
    assert all(torch.equal(four.weights[name], value) for name, value in killed.weights.items())


@pytest.mark.parametrize(
    ("world", "local", "cpus", "workers", "method"),
    [
        (1, None, 3, 3, "spawn" if os.name == "nt" else "forkserver"),
        (1, "1", 64, 8, "spawn" if os.name == "nt" else "forkserver"),
        (4, "4", 2, 0, None),
        (4, "4", 7, 0, None),
        (4, "4", 8, 2, "spawn"),
        (4, "1", 8, 8, "spawn"),
    ],
)
def test_workers_of_several_processes_come_from_no_fork_server(
    monkeypatch, world, local, cpus, workers, method
):
    monkeypatch.setattr(batches, "available_cpus", lambda: cpus)
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    if local:
        monkeypatch.setenv("LOCAL_WORLD_SIZE", local)
    count, context = batches.loading_workers(world)
    assert (count, context and context.get_start_method()) == (workers, method)


def test_restarts_need_a_store_of_their_own(monkeypatch):
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "True")
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "0")
    check_restarts()
    monkeypatch.setenv("TORCHELASTIC_MAX_RESTARTS", "3")
    with pytest.raises(PipelineError, match="TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1"):
        check_restarts()
    monkeypatch.setenv("TORCHELASTIC_USE_AGENT_STORE", "False")
    check_restarts()


LOADING = """
import multiprocessing, time
from ml import params as parameters
from ml.data.dataset import Dataset
from ml.training import batches
from ml.training.augment import augmentation

if __name__ == "__main__":
    batches.available_cpus = lambda: 2
    data, recipe = Dataset.load(), parameters.load().recipe
    sampler = batches.EpochSampler(data, recipe.batch_size, recipe.class_balance, 0, 0, 1)
    loading = iter(batches.training_batches(data, augmentation(recipe.augment, 32), sampler))
    next(loading)
    print(*(worker.pid for worker in multiprocessing.active_children()), flush=True)
    time.sleep(600)
"""


@pytest.mark.skipif(sys.platform != "linux", reason="finds the workers in /proc")
def test_workers_end_with_a_killed_training(data, params):
    """They would keep its output open, and what reads that would wait."""
    with Path("params.yaml").open("w") as file:
        YAML().dump(json.loads(params.model_dump_json()), file)
    Path("loading.py").write_text(LOADING)
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    with subprocess.Popen(
        [sys.executable, "loading.py"], env=environment, stdout=subprocess.PIPE, text=True
    ) as training:
        try:
            assert training.stdout
            workers = training.stdout.readline().split()
        finally:
            training.kill()
    assert len(workers) == 2
    until(lambda: not any(is_alive(pid) for pid in workers))


def is_alive(pid: str) -> bool:
    """Return whether a process runs; one that has ended may wait for its parent."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
