"""What the processes of one training have in common, which may run on several machines.

The first process decides what depends on files in models/: on a network disk, others may see a new file
later.
"""

import contextlib
import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import torch
from lightning_fabric import Fabric

from ml.data.dataset import Dataset
from ml.model.errors import PipelineError
from ml.params import Recipe


def check_restarts() -> None:
    """Check that torchrun, if it restarts processes, gives them a store of their own to find each other in.

    By default it keeps one store for all starts (torch 2.14). Processes that it has started again then find
    the addresses of those that have ended, connect to them, and fail.

    Raises:
        PipelineError: it restarts processes and keeps the store.
    """
    keeps_store = os.environ.get("TORCHELASTIC_USE_AGENT_STORE") == "True"
    if keeps_store and os.environ.get("TORCHELASTIC_MAX_RESTARTS", "0") != "0":
        raise PipelineError(
            "processes that torchrun restarts would connect to those that have ended: "
            "set TORCH_DISABLE_SHARE_RDZV_TCP_STORE=1 in its environment, or leave out --max-restarts"
        )


def check_processes(fabric: Fabric, recipe: Recipe, data: Dataset, fingerprint: str) -> None:
    """Check that the processes fit each other and the photos.

    Args:
        fabric: of the training.
        recipe: how it trains.
        data: the prepared photos.
        fingerprint: hexadecimal digits that say what is trained.

    Raises:
        PipelineError: a process has other photos, parameters or precision than the first one, or there are
            more processes than photos in a batch or in the validation split.
    """
    if fabric.world_size == 1:
        return
    most = min(recipe.batch_size, len(data.rows("train")), len(data.rows("val")))
    if fabric.world_size > most:
        raise PipelineError(
            f"{fabric.world_size} processes are too many: each needs a photo of each batch, which has "
            f"{recipe.batch_size}, and of the validation split, which has {len(data.rows('val'))}"
        )
    numbers = torch.as_tensor(fabric.all_gather(torch.tensor(int(fingerprint, 16)))).flatten().tolist()
    if others := [rank for rank, number in enumerate(numbers) if number != numbers[0]]:
        raise PipelineError(
            f"the processes {', '.join(map(str, others))} have other photos, parameters or precision than "
            "process 0: give all machines the same code, params.yaml and photos, and set train.precision"
        )


def first_process_has(fabric: Fabric, path: Path) -> bool:
    """Tell all processes whether the first one has a file."""
    return bool(fabric.broadcast(path.is_file()))


@contextlib.contextmanager
def file_of_first_process(fabric: Fabric, path: Path) -> Iterator[Path | None]:
    """Yield a file that the first process has; others yield a copy of it. None: there is no such file."""
    if not first_process_has(fabric, path):
        yield None
    elif fabric.world_size == 1:
        yield path
    else:
        content = fabric.broadcast(path.read_bytes() if fabric.is_global_zero else b"")
        with tempfile.TemporaryDirectory(prefix="train-") as folder:
            copy = Path(folder) / path.name
            copy.write_bytes(content)
            yield copy
