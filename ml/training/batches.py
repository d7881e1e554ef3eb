"""Batches of photos: augmented from seeds that name the photo and the epoch, so that any run can be repeated.

An epoch's order, and each photo's random changes, depend on nothing but the seed, the epoch and the row: not
on how many workers or processes there are, nor on where an interrupted run took up again.
"""

import multiprocessing
import os
from collections.abc import Iterator
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Sampler
from torch.utils.data import Dataset as TorchDataset
from torchvision.transforms import v2
from torchvision.transforms.v2 import functional

from ml.dataset import Dataset
from ml.params import Augment
from ml.training.augment import augmentation

Key = tuple[int, int]
"""A seed and a row."""

PLAIN_BATCH = 32
"""Photos in a batch without augmentation: more is no faster on a CPU, and takes more memory than training."""


def seed_of(*parts: int) -> int:
    """Mix whole numbers into one seed of 64 bits that depends on each and on their order."""
    return int(np.random.SeedSequence([part & 0xFFFFFFFF for part in parts]).generate_state(1, np.uint64)[0])


def cores() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0))


_PRELOADED = ["torch", "torchvision.transforms.v2", "pydantic", "ruamel.yaml", __name__, "ml.training.refine"]
"""Imported once for all workers. The last two where they are found: that process looks for modules in the
working folder and among what is installed, but not in what this one added to `sys.path`. Not `ml.train`: a
worker runs its parent's main module anew, and runpy warns of one that is imported already."""


class _Mapped(str):
    """Path of an .npy file that is mapped."""

    __slots__ = ()


class Photos(TorchDataset[tuple[Tensor, Tensor]]):
    """Photos of a prepared data set as uint8 [size, size, 3] and their labels, by (seed, row).

    Args:
        data: the prepared photos.
        augment: random changes, seeded by the key; None leaves the photos as they are.
    """

    def __init__(self, data: Dataset, augment: v2.Compose | None = None) -> None:
        self.images = data.images
        self.labels = data.labels
        self.augment = augment

    def __getstate__(self) -> dict[str, Any]:
        state = dict(self.__dict__)
        if isinstance(self.images, np.memmap):  # a worker maps the file too; pickle would copy all of it
            state["images"] = _Mapped(str(self.images.filename))
        return state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        if isinstance(self.images, _Mapped):
            self.images = np.load(self.images, mmap_mode="r")

    def __getitem__(self, key: Key) -> tuple[Tensor, Tensor]:
        seed, row = key
        pixels = torch.from_numpy(np.array(self.images[row]))
        if self.augment is not None:
            torch.manual_seed(seed_of(seed, row))
            pixels = self.augment(pixels.permute(2, 0, 1)).permute(1, 2, 0).contiguous()
        return pixels, torch.tensor(self.labels[row])


class EpochSampler(Sampler[list[Key]]):
    """The batches of one epoch for one of several processes, which share each batch between them.

    Args:
        rows: rows of the training photos.
        batch_size: photos a batch over all processes.
        seed: of the run.
        rank: number of this process.
        world: how many processes there are.
    """

    def __init__(self, rows: NDArray[np.int64], batch_size: int, seed: int, rank: int, world: int) -> None:
        self.rows, self.batch_size, self.seed, self.rank, self.world = rows, batch_size, seed, rank, world
        self.epoch = 0

    def __len__(self) -> int:
        # A last batch of a few photos would be a noisy step, so it is left for another epoch's order.
        return max(1, len(self.rows) // self.batch_size)

    def __iter__(self) -> Iterator[list[Key]]:
        seed = seed_of(self.seed, self.epoch)
        order = np.random.default_rng(seed).permutation(self.rows)
        for batch in range(len(self)):
            rows = order[batch * self.batch_size : (batch + 1) * self.batch_size]
            yield [(seed, int(row)) for row in rows[self.rank :: self.world]]


def training_batches(
    data: Dataset, params: Augment, sampler: EpochSampler, size: int
) -> DataLoader[tuple[Tensor, Tensor]]:
    """Load augmented photos in worker processes: uint8 [N, size, size, 3] and labels int64 [N].

    The workers are forked from a clean process that has done the imports, once: one that was forked from
    this process may wait for ever for a lock that another thread held at that moment.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(_PRELOADED)
    return DataLoader(
        Photos(data, augmentation(params, size)),
        batch_sampler=sampler,
        num_workers=min(cores(), 8),
        pin_memory=torch.cuda.is_available(),
        multiprocessing_context=context,
    )


def plain_batches(
    data: Dataset, rows: NDArray[np.int64], batch_size: int = PLAIN_BATCH, mirror: bool = False
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield photos as they are (or mirrored), in the order of `rows`: uint8 [N, size, size, 3], int64 [N]."""
    for start in range(0, len(rows), batch_size):
        some = rows[start : start + batch_size]
        pixels = torch.from_numpy(np.array(data.images[some]))
        if mirror:
            pixels = functional.horizontal_flip(pixels.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
        yield pixels, torch.from_numpy(data.labels[some])
