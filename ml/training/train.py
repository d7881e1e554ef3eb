"""Train the network on the prepared photos.

Writes models/checkpoint.pt and models/history.json, and logs an MLflow run. A killed run resumes after its
last finished epoch if you start it again with the same parameters and photos. To train in several processes:
torchrun --nproc-per-node 2 -m ml train
"""

import argparse
import dataclasses
import hashlib
import json
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from lightning_fabric import Fabric

from ml import params as parameters
from ml.cli import note
from ml.data.dataset import Dataset
from ml.model.allocator import keep_freed_memory
from ml.model.errors import PipelineError
from ml.model.files import replaced
from ml.model.networks import Network, build, network_class
from ml.params import Params, Recipe
from ml.paths import HISTORY
from ml.training.averaging import load_best_average, load_mean_head, mean_weights
from ml.training.batches import local_processes, seed_from
from ml.training.budget import Plan, make_plan
from ml.training.initial import check_size, fit_initial_head, initial_network
from ml.training.looks import join, looks, read_first
from ml.training.loop import Loop, Progress
from ml.training.processes import check_processes, check_restarts, first_process_has
from ml.training.trained_network import CHECKPOINT, TrainedNetwork
from ml.training.unfamiliar import is_unfamiliar

EXAMPLE = "python -m ml train"
STATE = Path("models/unfinished.pt")
"""The saved state of an unfinished run; its fingerprint and the number of the run are added to the name."""


def main(arguments: argparse.Namespace) -> None:
    """Train as params.yaml says."""
    keep_freed_memory()
    run(parameters.load())


def run(params: Params) -> list[dict[str, float]]:
    """Train all runs of the recipe, average weights, and write the checkpoint and the history.

    Returns:
        The metrics of the epochs of all runs, which are numbered from 1.

    Raises:
        PipelineError: the photos or the recipe do not fit, or training diverged.
    """
    check_restarts()
    data = Dataset.load()
    each_look = looks(params, data)
    for of_look, photos in each_look:
        check_size(of_look, photos.image_size)
    with torch.device("meta"):  # whether two looks fit each other, without making their weights
        build(params.train.network, len(data.classes))
    ready = read_first(params, data)
    fabric = make_fabric(params.train.precision, network_class(params.train.first_look).dense)
    CHECKPOINT.parent.mkdir(parents=True, exist_ok=True)
    if fabric.is_global_zero:
        from ml.tracking.store import LATER, check, log_training, or_later  # MLflow takes seconds to import

        with or_later(f"training goes on, and {LATER}"):
            check(params.tracking)
    trained_looks = [_train_look(fabric, of_look, photos) for of_look, photos in each_look]
    epochs = [epoch for look in trained_looks for epoch in look.epochs]
    history = [metrics | {"epoch": number} for number, metrics in enumerate(epochs, 1)]
    if fabric.is_global_zero:
        reported = trained_looks[0]
        networks, choices = [*ready, *(look.network for look in trained_looks)], reported.choices
        network = networks[0]
        if len(networks) > 1:
            network, val_loss = join(network, networks[1], data)
            choices = [{**choices[0], "val_loss": val_loss}]
        trained = TrainedNetwork(network, params.train.network, "")
        trained.save(data)
        results = {
            "history": history,
            "choices": choices,
            "recipe": reported.recipe.model_dump(),
            "photos": reported.photos,
        }
        HISTORY.write_text(json.dumps(results, indent=1) + "\n", "utf-8")
        with or_later(f"{CHECKPOINT} is complete, and {LATER}"):
            run_id = log_training(params.with_recipe(reported.recipe), data, history, choices)
            dataclasses.replace(trained, run_id=run_id).save(data)
        # Only now: DVC removes the checkpoint of a stage that was interrupted.
        for old in STATE.parent.glob(f"{STATE.stem}-*"):  # of this run, and of those that were given up
            old.unlink(missing_ok=True)
    fabric.barrier()
    return history


@dataclasses.dataclass(frozen=True)
class _TrainedLook:
    """A network after its runs. Only the first process has its final weights, and `choices`.

    Attributes:
        network: the network.
        epochs: metrics of the epochs of all runs.
        choices: see `load_best_average`.
        recipe: the recipe that was used for these photos.
        photos: number of training photos that were used.
    """

    network: Network
    epochs: list[dict[str, float]]
    choices: list[dict[str, float]]
    recipe: Recipe
    photos: int


def _train_look(fabric: Fabric, params: Params, data: Dataset) -> _TrainedLook:
    """Train all runs of the recipe and average their weights."""
    torch.manual_seed(params.train.seed)
    fingerprint = _fingerprint(params, data, fabric)
    check_processes(fabric, params.recipe, data, fingerprint)
    state = STATE.with_stem(f"{STATE.stem}-{fingerprint}")
    params, photos, of_head = _planned(fabric, params, data, state)
    network, pretrained, runs = _train_runs(fabric, params, photos, of_head, state)
    choices = list[dict[str, float]]()
    if fabric.is_global_zero:
        # A resumed run does not fit its head again, so its network may not hold the initial weights.
        initial = runs[0].initial_weights if pretrained else None
        weights = mean_weights([progress.best_weights for progress in runs])
        choices = load_best_average(network, initial, weights, data, params.recipe.finetuned_share)
        if params.recipe.average_head:
            val_loss = load_mean_head(network, params, photos)
            choices = [{**choices[0], "fitted_head": 0.5, "val_loss": val_loss}, *choices]
    fabric.barrier()
    epochs = [epoch for progress in runs for epoch in progress.history]
    return _TrainedLook(network, epochs, choices, params.recipe, len(photos.rows("train")))


def make_fabric(precision: str, dense: bool = False) -> Fabric:
    """Set up device, precision and strategy; under torchrun, join the processes that it started.

    Args:
        precision: Fabric's name of it, or `auto`: bf16-mixed if the hardware is faster in it (GPUs from
            Ampere on, CPUs with AMX and, if `dense`, CPUs with AVX-512 BF16), 16-mixed on older GPUs,
            otherwise 32-true.
        dense: whether the network's convolutions are dense. Depthwise ones are a fifth slower in AVX-512
            BF16.
    """
    local_world = local_processes()
    world = int(os.environ.get("WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator="auto",
        devices=local_world,
        num_nodes=world // local_world,
        # With plain "ddp", the first step after each start adds the gradients in another order than the later
        # ones, so a resumed training would differ from one without interruption.
        strategy="ddp_find_unused_parameters_true" if world > 1 else "auto",
        precision=_fastest_precision(dense) if precision == "auto" else precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def _fastest_precision(dense: bool) -> str:
    if torch.cuda.is_available():
        return "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
    native = torch.cpu._is_amx_tile_supported() or (dense and torch.cpu._is_avx512_bf16_supported())
    return "bf16-mixed" if native else "32-true"


def _planned(fabric: Fabric, params: Params, data: Dataset, state: Path) -> tuple[Params, Dataset, Dataset]:
    """Return parameters for these photos, and photos with which the training fits into `train.minutes`.

    If that is null, all photos are used, in more epochs if they are few. A resumed training keeps its plan.

    Returns:
        The parameters, the photos of the epochs and those of the first head.
    """
    began = time.monotonic()

    def unfamiliar() -> dict[str, Any]:
        return {"unfamiliar": is_unfamiliar(fabric, params, data)}

    if params.recipe.unfamiliar:  # otherwise there is nothing to decide, and no file of the decision
        decision = _decided(fabric, state.with_name(f"{state.stem}-photos.json"), unfamiliar)
        if decision["unfamiliar"]:
            params = params.with_recipe(params.recipe.for_unfamiliar())
    if params.train.minutes is None:
        photos = len(data.rows("train"))
        recipe = params.recipe.for_photos(photos)
        if fabric.is_global_zero and recipe.epochs > params.recipe.epochs:
            note(f"only {photos:,} training photos: {recipe.epochs} epochs instead of {params.recipe.epochs}")
        return params.with_recipe(recipe), data, data
    end = began + 60 * params.train.minutes

    def plan() -> dict[str, Any]:
        trial = state.with_stem(f"{state.stem}-trial")
        return dataclasses.asdict(make_plan(fabric, params, data, end, trial))

    return Plan(**_decided(fabric, state.with_name(f"{state.stem}-plan.json"), plan)).apply(params, data)


def _decided(fabric: Fabric, path: Path, decide: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """Return what was decided before the training was interrupted, or decide now and write the file."""
    if first_process_has(fabric, path):
        saved: dict[str, Any] = json.loads(path.read_text("utf-8")) if fabric.is_global_zero else {}
        return dict(fabric.broadcast(saved))
    decision = decide()
    fabric.barrier()
    if fabric.is_global_zero:
        with replaced(path) as file:
            file.write(json.dumps(decision).encode())
    return decision


def _train_runs(
    fabric: Fabric, params: Params, data: Dataset, of_head: Dataset, state: Path
) -> tuple[Network, bool, list[Progress]]:
    """Train all runs from the same initial weights, with other orders and augmentation of the photos.

    Their head is first fitted to the training photos of `of_head`.
    Finished and interrupted runs are resumed from their saved states.

    Returns:
        The network of the last run, whether it started from pretrained weights, and each run's progress.
    """
    recipe, seed, runs = params.recipe, params.train.seed, list[Progress]()
    for number in range(recipe.runs):
        run_state = state.with_stem(f"{state.stem}-{number}")
        network, pretrained = initial_network(params, data)
        if recipe.runs > 1:
            if not pretrained:
                raise PipelineError(
                    f"{params.train.network} has no pretrained weights, so its runs have no mean: "
                    f"set recipes.{params.train.arch}.runs to 1"
                )
            if fabric.is_global_zero:
                note(f"run {number + 1} of {recipe.runs}")
        if runs:
            network.load_state_dict(runs[0].initial_weights)
        elif pretrained and recipe.fit_head_first and not first_process_has(fabric, run_state):
            fit_initial_head(fabric, network, params, of_head)
        run_seed = seed_from(seed, number) if number else seed
        runs.append(Loop(fabric, network, data, recipe, run_seed, run_state).run())
        if not runs[-1].best_weights:
            raise PipelineError(
                "training diverged: no epoch had a finite validation loss; lower optimizer.lr in the recipe"
            )
    return network, pretrained, runs


def _fingerprint(params: Params, data: Dataset, fabric: Fabric) -> str:
    """Identify everything that a run depends on, so that only the same run is resumed."""
    parts = [
        params.train.model_dump_json(),
        params.recipe.model_dump_json(),
        fabric.strategy.precision.precision,
        f"{data.image_size} {data.resize}",
        *(data.digest(split) for split in ("train", "val")),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
