"""Trainings by several processes, by torchrun's own agent, in folders that contain params.yaml.

The processes are forked from one server that has imported torch: torchrun starts each of them anew, and the
imports would take most of the time.
"""

import json
import multiprocessing
import os
import signal
from pathlib import Path

from torch.distributed.launcher.api import LaunchConfig, elastic_launch

from ml import params as parameters
from ml.training import train
from ml.training.loop import Loop
from scripts.common.process import free_port

PROCESSES = 4


def run(folder: str, environment: dict[str, str], killed: int | None, ports: list[int]) -> None:
    """Train as one of the processes."""
    rank, train_epoch, save = int(os.environ["RANK"]), Loop._train_epoch, Loop._save
    starts = int(os.environ["TORCHELASTIC_RESTART_COUNT"])
    # torchrun's choice is a port of connections, which one may have by the time the photos are loaded.
    os.environ["MASTER_PORT"] = str(ports[starts])

    def note_and_train(loop: Loop, epoch: int) -> dict[str, float]:
        if rank == 0:
            with Path("epochs.txt").open("a") as file:
                file.write(f"{epoch}\n")
        return train_epoch(loop, epoch)

    def save_and_die(loop: Loop) -> None:
        save(loop)
        if rank == killed and starts == 0:
            Path("killed.txt").touch()
            os.kill(os.getpid(), signal.SIGKILL)

    Loop._train_epoch, Loop._save = note_and_train, save_and_die  # type: ignore[method-assign]
    os.environ.update(environment)
    os.chdir(folder)
    train.run(parameters.load())


def main(trainings: str) -> None:
    """Run one training after the other.

    Args:
        trainings: JSON, a list of [folder, environment, number of the process that is killed after the first
            epoch, or null]. `epochs.txt` in the folder then lists the epochs that the first process began;
            `killed.txt` is there if a process was killed.
    """
    if hasattr(os, "sched_setaffinity"):  # one CPU per process, so that none starts processes of its own
        os.sched_setaffinity(0, sorted(os.sched_getaffinity(0))[:PROCESSES])
    multiprocessing.set_forkserver_preload([__name__, "ml.tracking.store"])
    for folder, environment, killed in json.loads(trainings):
        config = LaunchConfig(
            min_nodes=1,
            max_nodes=1,
            nproc_per_node=PROCESSES,
            rdzv_backend="c10d",
            rdzv_endpoint="127.0.0.1:0",
            run_id=Path(folder).name,
            local_addr="127.0.0.1",
            max_restarts=0 if killed is None else 1,
            start_method="forkserver",
        )
        elastic_launch(config, run)(folder, environment, killed, [free_port(), free_port()])
