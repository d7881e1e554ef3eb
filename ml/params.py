"""params.yaml, typed: one class a stage, unknown keys and bad values refused at the start of each stage."""

import io
import sys
from pathlib import Path
from typing import Annotated, Literal, Self

try:
    from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator
    from ruamel.yaml import YAML
    from ruamel.yaml.error import YAMLError
except ModuleNotFoundError as missing:  # all commands of the pipeline come by here
    sys.exit(f"error: {missing.name} is not installed: `make dev` makes the environment that trains")

from ml.errors import PipelineError
from ml.image import Resize

PATH = Path("params.yaml")

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Ingest(_Section):
    """Where the photos come from."""

    source: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern="^([0-9a-fA-F]{64})?$")] = ""


class Prepare(_Section):
    """How photos become pixels and splits."""

    image_size: Annotated[int, Field(ge=32, le=1024)]
    resize: Resize
    val_share: Annotated[float, Field(gt=0, lt=0.5)]
    test_share: Annotated[float, Field(gt=0, lt=0.5)]
    near_duplicate_bits: Annotated[int, Field(ge=-1, le=64)]


Arch = Literal["efficientnet_lite0", "simple_cnn", "simple_cnn_legacy"]


class Train(_Section):
    """What is trained."""

    arch: Arch
    seed: int
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]


class Optimizer(_Section):
    """AdamW and its schedule."""

    lr: Positive
    head_lr_factor: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_share: Share
    grad_clip: Positive
    label_smoothing: Share


class Augment(_Section):
    """Random changes of the training photos; each at 0 (crop_min_area at 1) is off."""

    flip: Share
    crop_min_area: Annotated[float, Field(gt=0, le=1)]
    rotation: Annotated[float, Field(ge=0, le=180)]
    translate: Share
    shear: Annotated[float, Field(ge=0, le=45)]
    brightness: Annotated[float, Field(ge=0)]
    contrast: Annotated[float, Field(ge=0)]
    saturation: Annotated[float, Field(ge=0)]
    hue: Annotated[float, Field(ge=0, le=0.5)]
    grey: Share
    shrink: Share
    watermark: Share
    erasing: Share


class Recipe(_Section):
    """How an architecture is trained."""

    runs: Count = 1
    epochs: Count
    batch_size: Annotated[int, Field(ge=2)]
    optimizer: Optimizer
    first_image_size: Annotated[int, Field(ge=0, le=1024)] = 0
    freeze_batch_norm: bool
    fit_head_first: bool
    early_stopping: Annotated[int, Field(ge=0)]
    augment: Augment
    finetuned_share: Annotated[list[Share], Field(min_length=1)]
    refit_l2: list[Positive]


class Evaluate(_Section):
    """How the figures are made."""

    confidence: Annotated[float, Field(gt=0, lt=1)]
    resamples: Count
    calibration_bins: Count
    worst_mistakes: Count
    min_change: Share
    known: Literal["auto", "concepts", "distance"]
    known_photos: Count
    known_refused: Annotated[float, Field(gt=0, lt=0.5)]
    other: str


class Package(_Section):
    """What may become `model.pt`."""

    min_accuracy: Share
    calibration_photos: Count
    max_accuracy_drop: Share
    max_mean_difference: Share
    half: bool


class MaxFlips(_Section):
    """The largest share of labels that each change of a photo may flip, see `ml.packaging.changes`."""

    mirrored: Share
    turned_left: Share
    turned_right: Share
    brighter: Share
    darker: Share
    jpeg_30: Share
    jpeg_60: Share
    jpeg_95: Share
    half_size: Share
    side_96: Share
    watermarked: Share
    grey: Share
    exif: Share


class Stability(_Section):
    """How much small changes of a photo may matter."""

    photos: Count
    min_photos: Count
    max_flips: MaxFlips


class Tracking(_Section):
    """Names in MLflow."""

    experiment: Annotated[str, Field(min_length=1)]
    model: Annotated[str, Field(min_length=1)]


class Params(_Section):
    """All of params.yaml."""

    ingest: Ingest
    prepare: Prepare
    train: Train
    recipes: dict[Arch, Recipe]
    evaluate: Evaluate
    package: Package
    stability: Stability
    tracking: Tracking

    @model_validator(mode="after")
    def _has_its_recipe(self) -> Self:
        if self.train.arch not in self.recipes:
            raise ValueError(f"train.arch is {self.train.arch}, and recipes has none of that name")
        return self

    @property
    def recipe(self) -> Recipe:
        """The one of the architecture that is trained."""
        return self.recipes[self.train.arch]


def load(path: Path = PATH) -> Params:
    """Read and check the parameters.

    Raises:
        PipelineError: the file is missing, a key is unknown or missing, or a value is out of range.
    """
    try:
        text = path.read_text("utf-8")
    except OSError as error:
        raise PipelineError(f"{path} is missing: run this from the project's root") from error
    return _check(text, path)


def _check(text: str, path: Path) -> Params:
    try:
        return Params.model_validate(YAML(typ="safe").load(text))
    except YAMLError as error:
        raise PipelineError(f"{path} is no YAML: {' '.join(str(error).split())}") from error
    except ValidationError as error:
        lines = [f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors()]
        raise PipelineError(f"{path}: {'; '.join(lines)}") from error


def assign(key: str, value: str, path: Path = PATH) -> None:
    """Set one parameter in the file, by its dotted name, and keep the comments.

    Raises:
        PipelineError: there is no such parameter, or the value isn't one it can have.
    """
    yaml = YAML()
    yaml.preserve_quotes = True
    yaml.width = 1 << 16
    document = yaml.load(path)
    *sections, name = key.split(".")
    section = document
    for part in sections:
        section = section.get(part, {})
    if name not in section:
        raise PipelineError(f"{path} has no parameter {key}")
    section[name] = YAML(typ="safe").load(value) if not isinstance(section[name], str) else value
    buffer = io.StringIO()
    yaml.dump(document, buffer)
    _check(buffer.getvalue(), path)
    path.write_text(buffer.getvalue(), encoding="utf-8")


def main(arguments: list[str]) -> None:
    """Set each `KEY=VALUE`."""
    for argument in arguments:
        key, _, value = argument.partition("=")
        assign(key, value)


if __name__ == "__main__":
    from ml.cli import exit_cleanly

    with exit_cleanly():
        main(sys.argv[1:])
