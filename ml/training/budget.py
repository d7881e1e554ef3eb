"""Fits training into `train.minutes`.

Short trials choose the learning rate and show how long a step takes, from which the number of epochs follows.
"""

import dataclasses
import time
from pathlib import Path

import numpy as np
import torch
from lightning_fabric import Fabric

from ml.cli import note
from ml.data.dataset import Dataset
from ml.params import MORE_EPOCHS, Params, Recipe
from ml.training.averaging import SECOND_HEAD_PHOTOS, SHARES
from ml.training.batches import seed_from
from ml.training.initial import HEAD_PHOTOS, fit_initial_head, initial_network
from ml.training.loop import Loop

_FACTORS = (1.0, 0.5, 2.0)  # of the recipe's learning rate; the first one also measures the time
_FIRST_STEPS, _FEWEST_STEPS = 10, 30
_TRIALS = 0.2  # share of the time for the trials of learning rates
_USED = 0.9  # share of the time that is planned: other work on the machine may slow the rest down
_VALIDATION_STEP = 1 / 3  # time of a photo in validation, as a share of its time in training


@dataclasses.dataclass(frozen=True)
class Plan:
    """What fits into the time.

    Attributes:
        lr: learning rate.
        epochs: of each run.
        runs: from the same initial weights.
        share: of the training photos that the epochs use.
        head_share: of the training photos to which the first head is fitted.
    """

    lr: float
    epochs: int
    runs: int
    share: float = 1.0
    head_share: float = 1.0

    def apply(self, params: Params, data: Dataset) -> tuple[Params, Dataset, Dataset]:
        """Return the parameters, the photos of the epochs and those of the first head.

        With less than one epoch, the first head has seen more photos than the training. Validation may then
        keep the network as it was before the training, and no second head is fitted.
        """
        whole = self.share == 1
        averages = {*params.recipe.finetuned_share, *SHARES} | (set() if whole else {0.0})
        recipe = params.recipe.model_copy(
            update={
                "optimizer": params.recipe.optimizer.model_copy(update={"lr": self.lr}),
                "epochs": self.epochs,
                "runs": self.runs,
                "finetuned_share": sorted(averages),
                "average_head": params.recipe.average_head and whole,
            }
        )
        seed = params.train.seed
        return params.with_recipe(recipe), subset(data, seed, self.share), subset(data, seed, self.head_share)


def make_plan(fabric: Fabric, params: Params, data: Dataset, end: float, state: Path) -> Plan:
    """Choose by trials on some of the photos; all processes return the same plan.

    Successive halving: each learning rate trains for a few steps, and the better ones for twice as many. They
    are compared by the log loss on the validation split.

    Args:
        fabric: of the training.
        params: all parameters; the recipe says what training without a limit of time would do.
        data: the prepared photos.
        end: when the training has to end, by `time.monotonic`.
        state: a file for the saved state of a trial.
    """
    left_s, recipe = max(1.0, end - time.monotonic()), params.recipe
    lr, steps = recipe.optimizer.lr, max(1, len(data.rows("train")) // recipe.batch_size)
    validation = len(data.rows("val")) / recipe.batch_size * _VALIDATION_STEP
    trial = _trial(fabric, params, data, lr, min(_FIRST_STEPS, steps), state)
    seconds, start_s = max(1e-6, trial.seconds_per_step), trial.start_s
    rates = [lr * factor for factor in _FACTORS]
    halvings = (len(rates), (len(rates) + 1) // 2)
    cost = sum(number * 2**halving for halving, number in enumerate(halvings))
    cost += cost * _VALIDATION_STEP if recipe.fit_head_first else 0.0
    affordable = int((_TRIALS * left_s / seconds - sum(halvings) * validation) / cost)
    length = fabric.broadcast(min(affordable, max(1, steps // 2)))
    if length >= min(_FEWEST_STEPS, max(1, steps // 2)):
        for halving, number in enumerate(halvings):
            losses = {}
            for rate in rates[:number]:
                trial = _trial(fabric, params, data, rate, length * 2**halving, state)
                losses[rate] = trial.val_loss
                start_s = min(start_s, trial.start_s)  # the first one starts the server that forks workers
            rates = sorted(losses, key=lambda rate: (losses[rate], rate))
        lr = rates[0]
    affordable_steps = _USED * (end - time.monotonic()) / seconds
    plan = fit_time(recipe, lr, affordable_steps, steps, validation, start_s / seconds)
    plan = fabric.broadcast(plan)
    if fabric.is_global_zero:
        photos = "" if plan.share == 1 else f" with {plan.share:.0%} of the photos"
        note(
            f"{left_s / 60:.1f} minutes: {plan.runs} x {plan.epochs} epochs{photos} "
            f"at learning rate {plan.lr:g}, {seconds:.2f} s per step"
        )
        if plan.share < 1:
            note(
                "warning: this is less than one epoch, and the model suffers from it: raise train.minutes "
                f"(its head is first fitted to {plan.head_share:.0%} of the photos)"
            )
    return plan


def fit_time(
    recipe: Recipe, lr: float, affordable: float, steps: int, validation: float, start: float = 0.0
) -> Plan:
    """Return the plan for a number of affordable steps.

    Args:
        recipe: gives the runs, and limits the epochs.
        lr: the learning rate.
        affordable: how many steps the time allows.
        steps: of one epoch with all photos.
        validation: time of one validation, in steps.
        start: time until the first photos of an epoch are loaded, in steps.
    """
    photos = steps * recipe.batch_size
    first, second = (
        min(photos, most) / recipe.batch_size * _VALIDATION_STEP * fitted
        for most, fitted in ((HEAD_PHOTOS, recipe.fit_head_first), (SECOND_HEAD_PHOTOS, recipe.average_head))
    )
    left = affordable - first - second - len(SHARES) * validation
    for runs in (recipe.runs, 1):
        epochs = int(left / runs / (start + steps + validation))
        if epochs >= 1:
            return Plan(lr, min(epochs, recipe.epochs * MORE_EPOCHS), runs)
    # Validation follows the epoch and each average: those of SHARES, and the network before the training.
    left = affordable - start - (1 + len(SHARES) + 1) * validation
    share, head_share = (left - first) / steps, left / first if first else 1.0
    return Plan(lr, 1, 1, *(min(1.0, max(one, 1 / steps)) for one in (share, head_share)))


def subset(data: Dataset, seed: int, share: float) -> Dataset:
    """Return the data set without some training photos: `share` of each class stays, at least one photo.

    A larger share keeps the photos of a smaller one.
    """
    if share == 1:
        return data
    random = np.random.default_rng(seed_from(seed, 1))
    splits = data.splits.astype("U8")
    rows = data.rows("train")
    for number in range(len(data.classes)):
        own = random.permutation(rows[data.labels[rows] == number])
        splits[own[max(1, round(share * len(own))) :]] = "left out"
    return dataclasses.replace(data, splits=splits)


@dataclasses.dataclass(frozen=True)
class _Trial:
    """The log loss on validation after a trial, and `Loop.seconds_per_step` and `Loop.start_s`."""

    val_loss: float
    seconds_per_step: float
    start_s: float


def _trial(fabric: Fabric, params: Params, data: Dataset, lr: float, steps: int, state: Path) -> _Trial:
    """Train for some steps."""
    share = min(1.0, steps * params.recipe.batch_size / len(data.rows("train")))
    params, photos, heads = Plan(lr, 1, 1, share, share).apply(params, data)
    torch.manual_seed(params.train.seed)
    network, pretrained = initial_network(params, photos)
    if pretrained and params.recipe.fit_head_first:
        fit_initial_head(fabric, network, params, heads)
    if fabric.is_global_zero:
        state.unlink(missing_ok=True)  # of a trial that was killed
    fabric.barrier()
    loop = Loop(fabric, network, photos, params.recipe, params.train.seed, state)
    val_loss = loop.run().history[0]["val_loss"]
    fabric.barrier()
    if fabric.is_global_zero:
        state.unlink(missing_ok=True)
    return _Trial(val_loss if np.isfinite(val_loss) else np.inf, loop.seconds_per_step, loop.start_s)
