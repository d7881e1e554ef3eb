"""Batches of photos, with augmentation for training and without for everything else.

The order of an epoch and the augmentation of each photo depend only on the seed, the epoch and the row. They
do not depend on the number of workers or processes, nor on whether the run was interrupted.
"""

import multiprocessing
import os
from collections import Counter
from collections.abc import Iterator
from multiprocessing.context import BaseContext

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset

from ml.data.dataset import Dataset
from ml.data.workers import end_with_main_process
from ml.model.host import available_cpus
from ml.model.onnx_model import Images
from ml.training.balance import epoch_rows

Key = tuple[int, int]
"""A seed and a row."""

PLAIN_BATCH = 32
"""Photos per batch without augmentation: larger batches are no faster on a CPU and need more memory."""

_MOST_WORKERS = 8

_PRELOADED = ["torch", "torchvision.transforms.v2", "ml.training.augment", __name__]
"""Modules that are imported once for all workers. The server process that imports them finds the project's
own modules only if the working folder is the project's root; otherwise each worker imports them itself."""


def seed_from(*parts: int) -> int:
    """Derive one 64-bit seed from whole numbers; it depends on each of them and on their order."""
    return int(np.random.SeedSequence([part & 0xFFFFFFFF for part in parts]).generate_state(1, np.uint64)[0])


class Photos(TorchDataset[tuple[Tensor, Tensor]]):
    """Augmented photos of a data set as uint8 [size, size, 3] and their labels, by (seed, row)."""

    def __init__(self, data: Dataset, augment: nn.Module) -> None:
        self.images, self.labels, self.augment = data.images, data.labels, augment

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        return self.__getitems__([key])[0]

    def __getitems__(self, keys: list[Key]) -> list[tuple[Tensor, Tensor]]:
        # An object store is asked for all photos of a batch at once.
        images = self.images[np.array([row for _, row in keys])]
        return [self._augmented(key, image) for key, image in zip(keys, images, strict=True)]

    def _augmented(self, key: Key, image: NDArray[np.uint8]) -> tuple[Tensor, Tensor]:
        seed, row = key
        torch.manual_seed(seed_from(seed, row))
        pixels = torch.from_numpy(image).permute(2, 0, 1)
        return self.augment(pixels).permute(1, 2, 0).contiguous(), torch.tensor(self.labels[row])


class EpochSampler(Sampler[list[Key]]):
    """The batches of one epoch for process `rank` of `world`.

    The processes divide among them each batch of `batch_size` training photos. A photo that occurs again in
    an epoch, see `ml.training.balance`, is augmented differently.
    """

    def __init__(
        self, data: Dataset, batch_size: int, balance: float, seed: int, rank: int, world: int
    ) -> None:
        self.rows = data.rows("train")
        self.labels = data.labels[self.rows]
        self.batch_size, self.balance, self.seed = batch_size, balance, seed
        self.rank, self.world, self.epoch = rank, world, 0

    def __len__(self) -> int:
        # An incomplete last batch would be a noisy step, so it is dropped; each epoch drops other photos.
        return max(1, len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        seed = seed_from(self.seed, self.epoch)
        order = epoch_rows(self.rows, self.labels, self.balance, np.random.default_rng(seed))
        times, keys = Counter[int](), list[Key]()
        for row in order.tolist():
            keys.append((seed_from(seed, times[row]) if times[row] else seed, row))
            times[row] += 1
        for batch in range(len(self)):
            yield keys[batch * self.batch_size : (batch + 1) * self.batch_size][self.rank :: self.world]


def training_batches(
    data: Dataset, augment: nn.Module, sampler: EpochSampler
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Load augmented photos: uint8 [N, size, size, 3], and labels int64 [N]."""
    workers, context = loading_workers(sampler.world)
    return DataLoader(
        Photos(data, augment),
        batch_sampler=sampler,
        num_workers=workers,
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context=context,
        worker_init_fn=_begin_worker,
    )


def local_processes() -> int:
    """Return how many training processes torchrun started on this machine; without torchrun, 1."""
    return int(os.environ.get("LOCAL_WORLD_SIZE", "1"))


def loading_workers(world: int) -> tuple[int, BaseContext | None]:
    """Return how many worker processes load photos for each of `world` training processes, and their context.

    0 workers: the training process loads its photos itself.
    """
    if world > 1:
        # With a fork server, each process would wait until its server has imported torch, for minutes if they
        # share few CPUs. A worker would only take the CPU from its own process if that has no second one.
        own = min(available_cpus() // local_processes(), _MOST_WORKERS)
        return (own, multiprocessing.get_context("spawn")) if own > 1 else (0, None)
    workers = min(available_cpus(), _MOST_WORKERS)
    if os.name == "nt":  # Windows cannot fork
        return workers, multiprocessing.get_context("spawn")
    # The workers are forked from a server process that has no threads: one that is forked from this process
    # could wait forever for a lock that another thread held at that moment.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return workers, context


def _begin_worker(_: int) -> None:
    end_with_main_process()  # torch's own check sees only the fork server, which lives as long as its workers


def plain_batches(images: Images, rows: NDArray[np.int64]) -> Iterator[tuple[Tensor, NDArray[np.int64]]]:
    """Yield photos without augmentation, uint8 [N, H, W, 3], and their rows [N], in the order of `rows`."""
    for first in range(0, len(rows), PLAIN_BATCH):
        batch = rows[first : first + PLAIN_BATCH]
        yield torch.from_numpy(np.array(images[batch])), batch
