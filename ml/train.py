"""Stage train: a network from the prepared photos, as one MLflow run that survives a kill."""

import contextlib
import dataclasses
import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from ml import params as parameters
from ml.cli import exit_cleanly, note
from ml.dataset import FOLDER, Dataset
from ml.errors import PipelineError
from ml.memory import keep_freed_memory
from ml.networks import ARCHITECTURES, Network, build
from ml.params import Params
from ml.paths import HISTORY, PREPARE_REPORT
from ml.training.batches import seed_of
from ml.training.loop import Loop, Progress, make_fabric
from ml.training.refine import Choice, embed, fit_head, mean, refine

CHECKPOINT = Path("models/checkpoint.pt")
STATE = Path("models/unfinished.pt")
"""State of a run under way; a later call with the same parameters and photos takes it up."""


@dataclasses.dataclass(frozen=True)
class TrainReport:
    """What came of it: figures of each epoch, and the choices after them, best first."""

    history: list[dict[str, float]]
    choices: list[Choice]


def run(
    params: Params,
    data_folder: Path = FOLDER,
    checkpoint: Path = CHECKPOINT,
    history: Path = HISTORY,
    state: Path = STATE,
) -> TrainReport:
    """Train, average, fit the head, and write the checkpoint and the history.

    The checkpoint holds `arch`, `classes`, `image_size`, `resize`, `state_dict` (float32) and `run_id`.

    Raises:
        PipelineError: the photos don't fit, or the loss is no number.
    """
    data = Dataset.load(data_folder)
    fabric = make_fabric(params.train.precision, ARCHITECTURES[params.train.arch].dense)
    torch.manual_seed(params.train.seed)
    checkpoint.parent.mkdir(parents=True, exist_ok=True)
    state = state.with_stem(f"{state.stem}-{_fingerprint(params, data)}")

    progresses: list[Progress] = []
    for number in range(params.recipe.runs):
        network = build(params.train.arch, len(data.classes))
        network.to(memory_format=torch.channels_last)  # twice as fast on CPUs as torch's default
        own = state.with_stem(f"{state.stem}-{number}")
        pretrained = network.load_pretrained()
        if progresses:
            if not pretrained:
                raise PipelineError(
                    f"{params.train.arch} starts from chance: runs of it have no mean; runs: 1"
                )
            network.load_state_dict(progresses[0].start)
        elif pretrained and params.recipe.fit_head_first and not own.is_file():
            network.to(fabric.device)
            _fit_head_first(network, data, params, fabric.autocast)
        seed = seed_of(params.train.seed, number) if number else params.train.seed
        if params.recipe.runs > 1 and fabric.is_global_zero:
            note(f"run {number + 1} of {params.recipe.runs}")
        progress = Loop(fabric, network, data, params.recipe, seed, own).run()
        if not progress.weights:
            raise PipelineError(
                "training diverged: no epoch had a finite validation loss; lower its recipe's optimizer.lr"
            )
        progresses.append(progress)
    history_of_all = _history(progresses)
    if fabric.is_global_zero:
        # Not the network as it was built above: a run that is taken up again doesn't fit its head anew.
        before = progresses[0].start if pretrained else None
        weights = mean([progress.weights for progress in progresses])
        choices = refine(network, before, weights, data, params.recipe, contextlib.nullcontext)
        run_id = _track(params, data, history_of_all, choices)
        _write(network, data, params, run_id, checkpoint)
        report = TrainReport(history_of_all, choices)
        history.write_text(json.dumps(dataclasses.asdict(report), indent=1) + "\n", "utf-8")
        for left in state.parent.glob(f"{state.stem}-*{state.suffix}"):
            left.unlink()
    fabric.barrier()
    return TrainReport(history_of_all, choices if fabric.is_global_zero else [])


def _history(progresses: list[Progress]) -> list[dict[str, float]]:
    """Figures of each epoch of all runs, one after the other and numbered so."""
    figures = [epoch for progress in progresses for epoch in progress.history]
    return [one | {"epoch": number} for number, one in enumerate(figures, 1)]


def _fit_head_first(network: Network, data: Dataset, params: Params, autocast: Any) -> None:
    """Start from a fitted head: a random one would first bend the features (Kumar et al. 2022, LP-FT)."""
    features, labels = embed(network, data, data.rows("train"), autocast)
    strength = min(params.recipe.refit_l2, default=0.01)
    weight, bias = fit_head(features, labels, len(data.classes), strength)
    with torch.no_grad():
        network.head.weight.copy_(weight)
        network.head.bias.copy_(bias)


def _fingerprint(params: Params, data: Dataset) -> str:
    """Name what a run depends on, so that only the same run is taken up again."""
    chosen = (params.train.model_dump_json(), params.recipe.model_dump_json())
    parts = [*chosen, *(data.digest(split) for split in ("train", "val"))]
    return hashlib.sha256("\n".join(parts).encode()).hexdigest()[:12]


def _copy(network: Network) -> dict[str, torch.Tensor]:
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def _write(network: Network, data: Dataset, params: Params, run_id: str, path: Path) -> None:
    content = {
        "arch": params.train.arch,
        "classes": list(data.classes),
        "image_size": data.image_size,
        "resize": data.resize,
        "state_dict": {name: value.contiguous() for name, value in _copy(network).items()},
        "run_id": run_id,
    }
    partial = path.with_suffix(".part")
    torch.save(content, partial)
    partial.replace(path)


def _track(params: Params, data: Dataset, history: list[dict[str, float]], choices: list[Choice]) -> str:
    """Log parameters, figures of each epoch and what the data were, as a new MLflow run."""
    import mlflow

    from ml.tracking import dataset_md5, flatten, git_commit, log_figures, tracked

    with tracked(params.tracking) as run_id:
        chosen = params.model_dump(exclude={"tracking", "recipes"}) | {"recipe": params.recipe.model_dump()}
        mlflow.log_params(flatten(chosen))
        mlflow.set_tags(
            {
                "git_commit": git_commit(),
                "dataset_md5": dataset_md5(),
                "test_digest": data.digest("test"),
                "classes": ",".join(data.classes),
            }
        )
        for figures in history:
            epoch = int(figures["epoch"])
            mlflow.log_metrics({k: v for k, v in figures.items() if k != "epoch"}, step=epoch)
        mlflow.log_metric("refined_val_loss", choices[0].val_loss)
        mlflow.log_dict({"tried": [dataclasses.asdict(c) for c in choices]}, "choices.json")
        if PREPARE_REPORT.is_dir():
            log_figures(PREPARE_REPORT)
        return run_id


if __name__ == "__main__":
    with exit_cleanly():
        keep_freed_memory()
        run(parameters.load())
