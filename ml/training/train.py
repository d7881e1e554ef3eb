"""Train the network on the prepared photos.

Writes models/checkpoint.pt and models/history.json, and logs an MLflow run. A killed run resumes after its
last finished epoch if you start it again with the same parameters and photos. To train in several processes:
torchrun --nproc-per-node 2 -m ml train
"""

import argparse
import dataclasses
import hashlib
import json
from pathlib import Path

import torch
from lightning_fabric import Fabric

from ml import params as parameters
from ml.data.dataset import FOLDER, Dataset
from ml.model.allocator import keep_freed_memory
from ml.model.networks import network_class
from ml.params import Params
from ml.paths import HISTORY
from ml.training.averaging import Choice, load_best_average, mean_weights
from ml.training.devices import make_fabric
from ml.training.loop import Progress
from ml.training.runs import train_runs
from ml.training.trained_network import CHECKPOINT, TrainedNetwork

EXAMPLE = "python -m ml train"
STATE = Path("models/unfinished.pt")
"""The saved state of an unfinished run; its fingerprint and the number of the run are added to the name."""


@dataclasses.dataclass(frozen=True)
class TrainReport:
    """The metrics of each epoch, and the averages that were tried after the last one, best first."""

    history: list[dict[str, float]]
    choices: list[Choice]


def configure(parser: argparse.ArgumentParser) -> None:
    """Add no arguments: params.yaml holds the parameters."""


def main(arguments: argparse.Namespace) -> None:
    """Train as params.yaml says."""
    keep_freed_memory()
    run(parameters.load())


def run(
    params: Params,
    data_folder: Path = FOLDER,
    checkpoint: Path = CHECKPOINT,
    history: Path = HISTORY,
    state: Path = STATE,
) -> TrainReport:
    """Train all runs of the recipe, average their weights, and write the checkpoint and the history.

    Raises:
        PipelineError: the photos or the recipe do not fit, or training diverged.
    """
    data = Dataset.load(data_folder)
    fabric = make_fabric(params.train.precision, network_class(params.train.arch).dense)
    torch.manual_seed(params.train.seed)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    state = state.with_stem(f"{state.stem}-{_fingerprint(params, data, fabric)}")

    network, pretrained, progresses = train_runs(fabric, params, data, state)
    report = TrainReport(_number_epochs(progresses), [])
    if fabric.is_global_zero:
        from ml.tracking.training_run import log_training  # MLflow takes seconds to import

        # A resumed run does not fit its head again, so its network may not hold the initial weights.
        initial = progresses[0].initial_weights if pretrained else None
        weights = mean_weights([progress.best_weights for progress in progresses])
        report.choices[:] = load_best_average(network, initial, weights, data, params.recipe.finetuned_share)
        run_id = log_training(params, data, report.history, [dataclasses.asdict(c) for c in report.choices])
        TrainedNetwork(network, params.train.arch, run_id).save(data, checkpoint)
        history.write_text(json.dumps(dataclasses.asdict(report), indent=1) + "\n", "utf-8")
        for finished in state.parent.glob(f"{state.stem}-*{state.suffix}"):
            finished.unlink()
    fabric.barrier()
    return report


def _number_epochs(progresses: list[Progress]) -> list[dict[str, float]]:
    """Return the metrics of all epochs of all runs, numbered from 1."""
    epochs = [epoch for progress in progresses for epoch in progress.history]
    return [metrics | {"epoch": number} for number, metrics in enumerate(epochs, 1)]


def _fingerprint(params: Params, data: Dataset, fabric: Fabric) -> str:
    """Identify everything that a run depends on, so that only the same run is resumed."""
    chosen = (params.train.model_dump_json(), params.recipe.model_dump_json())
    parts = [
        *chosen,
        fabric.strategy.precision.precision,
        *(data.digest(split) for split in ("train", "val")),
    ]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]
