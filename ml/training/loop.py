"""The training loop: one epoch, validation, schedule, and a state that a killed run takes up again."""

import dataclasses
import math
import os
from pathlib import Path
from typing import Any, cast

import torch
from lightning_fabric import Fabric
from torch import Tensor, nn
from torch.nn import functional
from tqdm import tqdm

from ml.dataset import Dataset
from ml.networks import Network, Normalization
from ml.params import Optimizer, Recipe
from ml.training.batches import EpochSampler, plain_batches, seed_of, training_batches


@dataclasses.dataclass
class Progress:
    """How far a run has come, and its best weights so far.

    Attributes:
        epoch: epochs finished.
        history: figures of each finished epoch.
        best: validation log loss of `weights`.
        weights: the state_dict with the lowest validation log loss.
        stale: epochs since then.
        start: the state_dict before the first step.
    """

    epoch: int = 0
    history: list[dict[str, float]] = dataclasses.field(default_factory=list)
    best: float = math.inf
    weights: dict[str, Tensor] = dataclasses.field(default_factory=dict)
    stale: int = 0
    start: dict[str, Tensor] = dataclasses.field(default_factory=dict)


def make_fabric(precision: str, dense: bool = False) -> Fabric:
    """Choose device, precision and strategy; under torchrun, as many processes as it started.

    `auto` is bf16-mixed where the hardware is faster in it: GPUs from Ampere on, CPUs with AMX, and for a
    network of dense convolutions those with AVX-512 BF16 (depthwise ones lose a fifth there). It is 16-mixed
    on older GPUs, and 32-true elsewhere.
    """
    if precision == "auto":
        if torch.cuda.is_available():
            precision = (
                "bf16-mixed" if torch.cuda.is_bf16_supported(including_emulation=False) else "16-mixed"
            )
        else:
            native = torch.cpu._is_amx_tile_supported() or (dense and torch.cpu._is_avx512_bf16_supported())
            precision = "bf16-mixed" if native else "32-true"
    world = int(os.environ.get("WORLD_SIZE", "1"))
    fabric = Fabric(
        accelerator="auto",
        devices=int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        num_nodes=world // int(os.environ.get("LOCAL_WORLD_SIZE", "1")),
        strategy="ddp" if world > 1 else "auto",
        precision=precision,  # type: ignore[arg-type]
    )
    fabric.launch()
    return fabric


def parameter_groups(network: Network, params: Optimizer) -> list[dict[str, Any]]:
    """Give the head its own rate, and spare biases and BatchNorm the weight decay."""
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


def rate(step: int, steps: int, warmup_share: float) -> float:
    """Share of the full learning rate at a step: a linear climb, then a half cosine to zero."""
    warmup = warmup_share * steps
    if step < warmup:
        return (step + 1) / (warmup + 1)
    return 0.5 * (1 + math.cos(math.pi * (step - warmup) / max(1.0, steps - warmup)))


def size_of(epoch: int, epochs: int, first: int, last: int) -> int:
    """Height and width of the photos in an epoch: `first` to `last` in steps of 32; 0: `last` throughout.

    Small photos cost less and are learnt first (Tan and Le 2021, "EfficientNetV2", progressive learning).
    """
    if not first or epochs == 1:
        return last
    return min(last, first + round((last - first) * epoch / (epochs - 1) / 32) * 32)


class Loop:
    """Trains a network on the train split and measures it on validation after each epoch.

    Args:
        fabric: device, precision and processes.
        network: what is trained, in place.
        data: the prepared photos.
        recipe: how.
        seed: of the order of the photos, their random changes and the dropout.
        state: file from which an interrupted run is resumed and to which its state goes.
    """

    def __init__(
        self, fabric: Fabric, network: Network, data: Dataset, recipe: Recipe, seed: int, state: Path
    ) -> None:
        self.fabric, self.data, self.recipe, self.seed, self.state = fabric, data, recipe, seed, state
        self.normalize = Normalization(network.mean, network.std)
        self.sampler = EpochSampler(
            data.rows("train"), recipe.batch_size, seed, fabric.global_rank, fabric.world_size
        )
        self.steps = recipe.epochs * len(self.sampler)
        optimizer = torch.optim.AdamW(parameter_groups(network, recipe.optimizer))
        self.scheduler = torch.optim.lr_scheduler.LambdaLR(
            optimizer, lambda step: rate(step, self.steps, recipe.optimizer.warmup_share)
        )
        self.network, self.optimizer = fabric.setup(network, optimizer)
        self.bare = network
        self.progress = Progress()

    def run(self) -> Progress:
        """Train to the end, or until validation has stopped improving."""
        self._resume()
        if not self.progress.start:
            self.progress.start = self._weights()
        while self.progress.epoch < self.recipe.epochs and not self._stopped():
            figures = self._epoch(self.progress.epoch) | self._validate()
            self._record(figures)
        return self.progress

    def _weights(self) -> dict[str, Tensor]:
        return {name: value.detach().cpu().clone() for name, value in self.bare.state_dict().items()}

    def _stopped(self) -> bool:
        return 0 < self.recipe.early_stopping <= self.progress.stale

    def _epoch(self, epoch: int) -> dict[str, float]:
        self.sampler.epoch = epoch
        self.network.train()
        if self.recipe.freeze_batch_norm:
            for module in self.bare.modules():
                if isinstance(module, nn.BatchNorm2d):
                    module.eval()
        total = torch.zeros(3, device=self.fabric.device)
        size = size_of(epoch, self.recipe.epochs, self.recipe.first_image_size, self.data.image_size)
        bar = tqdm(
            training_batches(self.data, self.recipe.augment, self.sampler, size),
            desc=f"epoch {epoch + 1}/{self.recipe.epochs}",
            disable=not self.fabric.is_global_zero,
            mininterval=1,
        )
        for step, (pixels, labels) in enumerate(bar):
            torch.manual_seed(seed_of(self.seed, epoch, step, self.fabric.global_rank))  # dropout
            images, labels = self.normalize(pixels.to(self.fabric.device)), labels.to(self.fabric.device)
            logits = self.network(images).float()
            loss = functional.cross_entropy(
                logits, labels, label_smoothing=self.recipe.optimizer.label_smoothing
            )
            self.fabric.backward(loss)
            self.fabric.clip_gradients(
                self.network,
                self.optimizer,
                max_norm=self.recipe.optimizer.grad_clip,
                error_if_nonfinite=False,
            )
            self.optimizer.step()
            self.optimizer.zero_grad()
            self.scheduler.step()
            total += _sums(logits.detach(), labels)
            bar.set_postfix(loss=f"{loss.item():.3f}", refresh=False)
        return self._means(total, "train")

    def _validate(self) -> dict[str, float]:
        self.network.eval()
        total = torch.zeros(3, device=self.fabric.device)
        rows = self.data.rows("val")[self.fabric.global_rank :: self.fabric.world_size]
        with torch.inference_mode():
            for pixels, labels in plain_batches(self.data, rows):
                logits = self.network(self.normalize(pixels.to(self.fabric.device))).float()
                total += _sums(logits, labels.to(self.fabric.device))
        return self._means(total, "val")

    def _means(self, total: Tensor, name: str) -> dict[str, float]:
        loss, right, count = cast(Tensor, self.fabric.all_reduce(total, reduce_op="sum")).tolist()
        return {f"{name}_loss": loss / count, f"{name}_accuracy": right / count}

    def _record(self, figures: dict[str, float]) -> None:
        progress = self.progress
        progress.epoch += 1
        progress.history.append(
            {"epoch": progress.epoch, "lr": float(self.scheduler.get_last_lr()[0]), **figures}
        )
        if figures["val_loss"] < progress.best:
            progress.best, progress.stale = figures["val_loss"], 0
            progress.weights = self._weights()
        else:
            progress.stale += 1
        if self.fabric.is_global_zero:
            state = {
                "progress": dataclasses.asdict(progress),
                "network": self.bare.state_dict(),
                "optimizer": self.optimizer.state_dict(),
                "scheduler": self.scheduler.state_dict(),
            }
            partial = self.state.with_suffix(".part")
            torch.save(state, partial)
            partial.replace(self.state)  # a kill in the middle of writing leaves the state before
        self.fabric.barrier()

    def _resume(self) -> None:
        if not self.state.is_file():
            return
        state = torch.load(self.state, map_location="cpu", weights_only=True)
        self.progress = Progress(**state["progress"])
        self.bare.load_state_dict(state["network"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.scheduler.load_state_dict(state["scheduler"])


def _sums(logits: Tensor, labels: Tensor) -> Tensor:
    """Return the sum of log losses, the number of right answers and the number of photos."""
    loss = functional.cross_entropy(logits, labels, reduction="sum")
    right = (logits.argmax(1) == labels).sum()
    return torch.stack([loss, right.to(loss.dtype), torch.tensor(float(len(labels)), device=loss.device)])
