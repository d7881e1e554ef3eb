"""The file that training leaves for the stages after it: float32 weights and where they come from."""

import dataclasses
import io
from pathlib import Path
from typing import Self

import torch

from ml.data.dataset import Dataset
from ml.model.errors import PipelineError
from ml.model.files import replaced
from ml.model.networks import Network, build

CHECKPOINT = Path("models/checkpoint.pt")


def _photos(data: Dataset) -> dict[str, str]:
    """Return what identifies the photos that a network learns from and is chosen by."""
    return {split: data.digest(split) for split in ("train", "val")}


@dataclasses.dataclass(frozen=True)
class TrainedNetwork:
    """A trained network, its architecture, and its run in MLflow (empty: not logged)."""

    network: Network
    arch: str
    run_id: str

    def save(self, data: Dataset) -> None:
        """Write the network and what it needs to know of its photos; the file is replaced atomically."""
        weights = self.network.state_dict()
        content = {
            "arch": self.arch,
            "classes": list(data.classes),
            "image_size": data.image_size,
            "resize": data.resize,
            "photos": _photos(data),
            "state_dict": {name: value.cpu().contiguous() for name, value in weights.items()},
            "run_id": self.run_id,
        }
        buffer = io.BytesIO()  # torch reports a full disk as an error of its own
        torch.save(content, buffer)
        with replaced(CHECKPOINT) as file:
            file.write(buffer.getbuffer())

    @classmethod
    def load(cls, data: Dataset) -> Self:
        """Read the network, in main memory and in evaluation mode.

        Raises:
            PipelineError: there is no such file, or it was trained on other photos, labels or splits.
        """
        try:
            content = torch.load(CHECKPOINT, map_location="cpu", weights_only=True)
        except OSError as error:
            raise PipelineError(f"{CHECKPOINT} is missing: run `dvc repro`") from error
        for what, own, theirs in (
            ("the classes", content["classes"], list(data.classes)),
            ("the image size", content["image_size"], data.image_size),
            ("the resizing", content["resize"], data.resize),
        ):
            if own != theirs:
                raise PipelineError(
                    f"{CHECKPOINT} has {what} {own}, but the photos have {theirs}: run `dvc repro`"
                )
        # Otherwise it may have learned from the test photos.
        if content.get("photos") != _photos(data):
            raise PipelineError(
                f"{CHECKPOINT} was trained on other photos, labels or splits than these: run `dvc repro`"
            )
        network = build(content["arch"], len(data.classes))
        network.load_state_dict(content["state_dict"])
        network.eval().to(memory_format=torch.channels_last)  # twice as fast on CPUs as torch's default
        return cls(network, content["arch"], content["run_id"])
