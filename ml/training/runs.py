"""The runs of a recipe: from the same initial weights, with other orders and augmentation of the photos."""

from pathlib import Path
from typing import NamedTuple

import torch
from lightning_fabric import Fabric

from ml.cli import note
from ml.data.dataset import Dataset
from ml.model.errors import PipelineError
from ml.model.networks import Network, build
from ml.params import Params
from ml.training.batches import seed_from
from ml.training.head import embed, fit_head
from ml.training.loop import Loop, Progress


class Runs(NamedTuple):
    """The network of the last run, whether it started from pretrained weights, and each run's progress."""

    network: Network
    pretrained: bool
    progresses: list[Progress]


def train_runs(fabric: Fabric, params: Params, data: Dataset, state: Path) -> Runs:
    """Train all runs of the recipe; finished and interrupted ones are resumed from their saved states.

    Args:
        fabric: device, precision and processes.
        params: the architecture, its recipe and the seed.
        data: the prepared photos.
        state: file of the saved states; each run appends its number to the name.

    Raises:
        PipelineError: several runs of a network without pretrained weights, or no epoch had a finite loss.
    """
    recipe, seed, progresses = params.recipe, params.train.seed, list[Progress]()
    for number in range(recipe.runs):
        run_state = state.with_stem(f"{state.stem}-{number}")
        network = build(params.train.arch, len(data.classes))
        network.to(memory_format=torch.channels_last)  # twice as fast on CPUs as torch's default
        pretrained = network.load_pretrained()
        if recipe.runs > 1:
            if not pretrained:
                raise PipelineError(
                    f"{params.train.arch} has no pretrained weights, so its runs have no mean: set runs: 1"
                )
            if fabric.is_global_zero:
                note(f"run {number + 1} of {recipe.runs}")
        if progresses:
            network.load_state_dict(progresses[0].initial_weights)
        elif pretrained and recipe.fit_head_first and not run_state.is_file():
            network.to(fabric.device)
            fit_head(network, *embed(network, data, data.rows("train"), fabric.autocast))
        run_seed = seed_from(seed, number) if number else seed
        progresses.append(Loop(fabric, network, data, recipe, run_seed, run_state).run())
        if not progresses[-1].best_weights:
            raise PipelineError(
                "training diverged: no epoch had a finite validation loss; lower optimizer.lr in the recipe"
            )
    return Runs(network, pretrained, progresses)
