"""The training loop: epochs, validation after each one, and a saved state from which a killed run resumes."""

import dataclasses
import math
import time
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from ml.data.dataset import Dataset
from ml.model.networks import Network, Normalization
from ml.params import Optimizer, Recipe
from ml.training.augment import augmentation
from ml.training.batch_norm import synchronize
from ml.training.batches import EpochSampler, plain_batches, seed_from, training_batches
from ml.training.processes import file_of_first_process


@dataclasses.dataclass
class Progress:
    """The progress of a run: finished epochs with their metrics, and state_dicts.

    `best_weights` have the lowest validation log loss; `initial_weights` are those before the first step.
    """

    epoch: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best_val_loss: float = math.inf
    best_weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    initial_weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)


class Loop:
    """Trains a network in place on the train split, and measures it on the validation split after each epoch.

    The seed determines the order of the photos, their augmentation and the dropout. After each epoch, the
    state is saved to the file `state`, from which an interrupted run resumes.
    """

    def __init__(
        self,
        fabric: Fabric,
        network: Network,
        data: Dataset,
        recipe: Recipe,
        seed: int,
        state: Path,
    ) -> None:
        self.fabric, self.data, self.recipe, self.seed, self.state = fabric, data, recipe, seed, state
        self.normalize = Normalization(network.mean, network.std)
        self.sampler = EpochSampler(
            data, recipe.batch_size, recipe.class_balance, seed, fabric.global_rank, fabric.world_size
        )
        steps, warmup_share = recipe.epochs * len(self.sampler), recipe.optimizer.warmup_share
        optimizer = torch.optim.AdamW(_parameter_groups(network, recipe.optimizer))
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: learning_rate_factor(step, steps, warmup_share)
        )
        self.bare_network = network
        if fabric.world_size > 1:
            synchronize(network)
        self.network, self.optimizer = fabric.setup(network, optimizer)
        self.progress = Progress()
        self.seconds_per_step = 0.0  # of the last epoch, without its start
        self.start_s = 0.0  # until the first step of the last epoch ended, less the time of a step

    def run(self) -> Progress:
        """Train up to the last epoch of the recipe, from the saved state if there is one."""
        self._resume()
        if not self.progress.initial_weights:
            self.progress.initial_weights = copy_weights(self.bare_network)
        while self.progress.epoch < self.recipe.epochs:
            self._record(self._train_epoch(self.progress.epoch) | self._validate())
            self._save()
        return self.progress

    def _train_epoch(self, epoch: int) -> dict[str, float]:
        self.sampler.epoch = epoch
        self.network.train()
        if self.recipe.freeze_batch_norm:
            for module in self.bare_network.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        size = image_size_at(epoch, self.recipe.epochs, self.recipe.first_image_size, self.data.image_size)
        # Not `disable=False`, which would override TQDM_DISABLE.
        silent: dict[str, Any] = {} if self.fabric.is_global_zero else {"disable": True}
        batches = tqdm(
            training_batches(self.data, augmentation(self.recipe.augment, size), self.sampler),
            desc=f"epoch {epoch + 1}/{self.recipe.epochs}",
            mininterval=1,
            **silent,
        )
        totals, begin = torch.zeros(3, device=self.fabric.device), time.monotonic()
        first = begin
        for step, (pixels, labels) in enumerate(batches):
            # The dropout must not depend on whether the run was resumed.
            torch.manual_seed(seed_from(self.seed, epoch, step, self.fabric.global_rank))
            images, labels = self.normalize(pixels.to(self.fabric.device)), labels.to(self.fabric.device)
            logits = self.network(images).float()
            loss = functional.cross_entropy(logits, labels)
            self.fabric.backward(loss)
            max_norm = self.recipe.optimizer.grad_clip
            self.fabric.clip_gradients(
                self.network, self.optimizer, max_norm=max_norm, error_if_nonfinite=False
            )
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.scheduler.step()
            totals += _loss_hits_count(logits.detach(), labels)
            batches.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
            if step == 0 and len(self.sampler) > 1:
                begin = time.monotonic()
        self.seconds_per_step = (time.monotonic() - begin) / max(1, len(self.sampler) - 1)
        self.start_s = max(0.0, begin - first - self.seconds_per_step)
        return self._means(totals, "train")

    def _validate(self) -> dict[str, float]:
        self.network.eval()
        totals = torch.zeros(3, device=self.fabric.device)
        rows = self.data.rows("val")[self.fabric.global_rank :: self.fabric.world_size]
        with torch.inference_mode():
            for pixels, batch in plain_batches(self.data.images, rows):
                logits = self.network(self.normalize(pixels.to(self.fabric.device))).float()
                labels = torch.from_numpy(self.data.labels[batch]).to(self.fabric.device)
                totals += _loss_hits_count(logits, labels)
        return self._means(totals, "val")

    def _means(self, totals: Tensor, split: str) -> dict[str, float]:
        loss, hits, count = cast(Tensor, self.fabric.all_reduce(totals, reduce_op="sum")).tolist()
        return {f"{split}_loss": loss / count, f"{split}_accuracy": hits / count}

    def _record(self, metrics: dict[str, float]) -> None:
        progress = self.progress
        progress.epoch += 1
        learning_rate = float(self.scheduler.get_last_lr()[0])
        progress.history.append({"epoch": progress.epoch, "lr": learning_rate, **metrics})
        if metrics["val_loss"] < progress.best_val_loss:
            progress.best_val_loss = metrics["val_loss"]
            progress.best_weights = copy_weights(self.bare_network)

    def _state(self) -> dict[str, Any]:
        """Return what Fabric saves, and restores in place; `precision` holds the scale of 16-mixed."""
        return {
            "network": self.network,
            "optimizer": self.optimizer,
            "scheduler": self.scheduler,
            "precision": self.fabric.strategy.precision,
            "progress": dataclasses.asdict(self.progress),
        }

    def _save(self) -> None:
        # Fabric may copy its file from another disk, so a kill could leave half of it: replace it at once.
        partial = self.state.with_suffix(".part")
        try:
            self.fabric.save(partial, self._state())
        except OSError as error:  # a full disk; the error names the file that was copied
            partial.unlink(missing_ok=True)
            error.filename, error.filename2 = str(self.state), None
            raise
        if self.fabric.is_global_zero:
            partial.replace(self.state)
        self.fabric.barrier()

    def _resume(self) -> None:
        with file_of_first_process(self.fabric, self.state) as saved:
            if saved is None:
                return
            state = self._state()
            self.fabric.load(saved, state, weights_only=True)
            self.progress = Progress(**state["progress"])


def copy_weights(network: nn.Module) -> dict[str, Tensor]:
    """Return a copy of the state_dict in main memory."""
    return {name: value.detach().cpu().clone() for name, value in network.state_dict().items()}


def _loss_hits_count(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of log losses, the number of correct answers and the number of photos.

    `labels` are int64 [N].
    """
    loss = functional.cross_entropy(logits, labels, reduction="sum")
    hits = (logits.argmax(1) == labels).sum()
    return torch.stack([loss, hits.to(loss.dtype), torch.tensor(float(len(labels)), device=loss.device)])


def _parameter_groups(network: Network, params: Optimizer) -> list[dict[str, Any]]:
    """Group the parameters: the head has its own learning rate; biases and BatchNorm have no weight decay."""
    head = {id(parameter) for parameter in network.head.parameters()}
    groups: dict[tuple[bool, bool], list[nn.Parameter]] = {}
    for parameter in network.parameters():
        groups.setdefault((id(parameter) in head, parameter.ndim > 1), []).append(parameter)
    return [
        {
            "params": parameters,
            "lr": params.lr * (params.head_lr_factor if is_head else 1.0),
            "weight_decay": params.weight_decay if decays else 0.0,
        }
        for (is_head, decays), parameters in groups.items()
    ]


def learning_rate_factor(step: int, steps: int, warmup_share: float) -> float:
    """Return the share of the full learning rate at a step: linear warm-up, then a half cosine to zero."""
    warmup = warmup_share * steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))


def image_size_at(epoch: int, epochs: int, first: int, last: int) -> int:
    """Return height and width of the photos in an epoch: from `first` in steps of 32 pixels, then `last`.

    If `first` is 0, it is `last` in every epoch. Small photos cost less, and suffice for the first epochs
    (Tan and Le 2021, "EfficientNetV2", progressive learning).
    """
    if not first or epoch == epochs - 1:
        return last
    return min(last, first + round((last - first) * epoch / (epochs - 1) / 32) * 32)
