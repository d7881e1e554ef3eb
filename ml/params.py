"""The parameters in params.yaml. Every stage reads them here, and no unknown key or invalid value passes."""

import math
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, ValidationError, model_validator
from ruamel.yaml import YAML
from ruamel.yaml.error import YAMLError

from ml.model.errors import PipelineError, one_line
from ml.model.image import Resize
from ml.model.manifest import ARCHITECTURES, LIBRARIES, is_arch

PATH = Path("params.yaml")
MORE_EPOCHS = 5
"""Training has at most this many times the epochs of its recipe: with few photos, or with much time."""

Share = Annotated[float, Field(ge=0, le=1)]
Positive = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]


class _Section(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid", allow_inf_nan=False)


class Ingest(_Section):
    """The source of the photos."""

    source: Annotated[str, Field(min_length=1)]
    sha256: Annotated[str, Field(pattern="^([0-9a-fA-F]{64})?$")] = ""


def _zero_or_size(size: int) -> int:
    if size and not 32 <= size <= 1024:
        raise ValueError("expected 32 to 1024, or 0 for the size that suits the architecture")
    return size


class Prepare(_Section):
    """Decoding and splitting of the photos."""

    image_size: Annotated[int, AfterValidator(_zero_or_size)]
    resize: Resize
    val_share: Annotated[float, Field(gt=0, lt=0.5)]
    test_share: Annotated[float, Field(gt=0, lt=0.5)]
    near_duplicate_bits: Annotated[int, Field(ge=-1, le=64)]


def _known_architecture(name: str) -> str:
    if name not in (names := ARCHITECTURES + LIBRARIES):
        raise ValueError(
            f"unknown architecture {name!r:.60}; there are {', '.join(names)}. "
            "For a model of a library, also set train.body: train.arch=torchvision train.body=resnet18"
        )
    return name


Arch = Annotated[str, AfterValidator(_known_architecture)]


class Train(_Section):
    """The network to train."""

    arch: Arch
    body: str = ""
    second_look: Arch | Literal[""] = ""
    first_model: str = ""
    minutes: Annotated[float, Field(gt=0, le=1e6)] | None = None
    seed: Annotated[int, Field(ge=0, lt=2**32)]  # what NumPy takes
    precision: Literal["auto", "32-true", "bf16-mixed", "16-mixed"]

    @property
    def network(self) -> str:
        """The name under which `ml.model.networks.build` knows the network."""
        return "+".join(filter(None, [self.first_look, self.second_look]))

    @property
    def first_look(self) -> str:
        """The name of the network that looks at every photo."""
        return f"{self.arch}/{self.body}" if self.body else self.arch

    @model_validator(mode="after")
    def _has_a_body(self) -> Self:
        if self.arch in LIBRARIES and not self.body:
            raise ValueError(f"body: name a model of {self.arch}, such as resnet18")
        if self.second_look and not is_arch(self.network):
            raise ValueError(
                f"second_look: both networks have to be one of {', '.join(ARCHITECTURES)}; "
                "leave it empty for one look"
            )
        if self.first_model and not self.second_look:
            raise ValueError("first_model: it takes the first of two looks, so name a second_look, too")
        if not is_arch(self.first_look):
            kind = (
                "not a name of a model"
                if self.arch in LIBRARIES
                else f"{self.arch} takes none: leave it empty"
            )
            raise ValueError(f"body {self.body!r:.60}: {kind}")
        return self


class Optimizer(_Section):
    """Settings of AdamW and its schedule."""

    lr: Positive
    head_lr_factor: Positive
    weight_decay: Annotated[float, Field(ge=0)]
    warmup_share: Share
    grad_clip: Positive


class Augment(_Section):
    """Random changes of the training photos; 0 turns one off (crop_min_area: 1)."""

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


class Unfamiliar(_Section):
    """Settings for photos that differ from those of the pretraining, see `ml.training.unfamiliar`."""

    from_error: Share
    lr_factor: Positive
    finetuned_share: Annotated[list[Share], Field(min_length=1)]
    average_head: bool


class Recipe(_Section):
    """Settings for the training of one architecture."""

    runs: Count = 1
    epochs: Count
    fewest_steps: Annotated[int, Field(ge=0)] = 0
    batch_size: Annotated[int, Field(ge=2)]
    optimizer: Optimizer
    first_image_size: Annotated[int, Field(ge=0, le=1024)] = 0
    freeze_batch_norm: bool
    fit_head_first: bool
    class_balance: Share = 1.0
    augment: Augment
    finetuned_share: Annotated[list[Share], Field(min_length=1)]
    average_head: bool = False
    unfamiliar: Unfamiliar | None = None

    def for_unfamiliar(self) -> Self:
        """Return the recipe with its settings for unfamiliar photos."""
        if self.unfamiliar is None:
            return self
        lr = self.optimizer.lr * self.unfamiliar.lr_factor
        optimizer = self.optimizer.model_copy(update={"lr": lr})
        changes = self.unfamiliar.model_dump(exclude={"from_error", "lr_factor"})
        return self.model_copy(update={"optimizer": optimizer, **changes})

    def for_photos(self, number: int) -> Self:
        """Return the recipe for a number of training photos, with more epochs if there are few."""
        steps = max(1, number // self.batch_size)
        enough = min(math.ceil(self.fewest_steps / steps), MORE_EPOCHS * self.epochs)
        return self.model_copy(update={"epochs": max(self.epochs, enough)})


class Evaluate(_Section):
    """Settings of the evaluation."""

    confidence: Annotated[float, Field(gt=0, lt=1)]
    resamples: Count
    calibration_bins: Count
    worst_mistakes: Count
    min_change: Share
    ood_method: Literal["auto", "concepts", "distance"]
    ood_photos: Count
    ood_rejected: Annotated[float, Field(gt=0, lt=0.5)]
    other: str


class Floor(_Section):
    """The minimum accuracy of models that have exactly these classes."""

    classes: list[str]
    accuracy: Share


class Package(_Section):
    """Conditions for `model.pt`."""

    min_accuracy: Share | None = None
    floors: list[Floor] = Field(default_factory=list)
    calibration_photos: Count
    max_accuracy_drop: Share
    max_mean_difference: Share
    half: bool
    examples: str = ""


class MaxFlips(_Section):
    """The largest share of labels that each perturbation may flip, see `ml.packaging.perturbations`."""

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
    """Limits for the effect of perturbations."""

    photos: Count
    min_photos: Count
    max_flips: MaxFlips


AUTO = "auto"


class Tracking(_Section):
    """Names in MLflow; see `ml.registry.names` for what `auto` stands for."""

    experiment: Annotated[str, Field(min_length=1)]
    model: Annotated[str, Field(pattern="^[^/:'\"%]+$")]


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
        for setting, arch in (("arch", self.train.arch), ("second_look", self.train.second_look)):
            if arch and arch not in self.recipes:
                raise ValueError(f"train.{setting} is {arch}: add a recipe {arch} to recipes")
        return self

    @property
    def recipe(self) -> Recipe:
        """The recipe of the architecture to train."""
        return self.recipes[self.train.arch]

    def with_recipe(self, recipe: Recipe) -> Self:
        """Return the parameters with another recipe of the architecture to train."""
        return self.model_copy(update={"recipes": {**self.recipes, self.train.arch: recipe}})


def load(path: Path = PATH) -> Params:
    """Read and check the parameters.

    Raises:
        PipelineError: the file is missing or not YAML, a key is unknown or missing, or a value is invalid.
    """
    return check(read_text(path), path)


def read_text(path: Path) -> str:
    """Return the content of the file.

    Raises:
        PipelineError: it is missing, cannot be read or is not text.
    """
    try:
        return path.read_text("utf-8")
    except FileNotFoundError as error:
        raise PipelineError(f"{path} is missing: run this from the project's root") from error
    except OSError as error:
        raise PipelineError(f"{path} cannot be read: {error.strerror}") from error
    except UnicodeDecodeError as error:
        raise PipelineError(f"{path} is not UTF-8 text") from error


def parse(text: str, name: object) -> Any:
    """Return the value of a YAML text; `name` is what the PipelineError calls it."""
    try:
        return YAML(typ="safe").load(text)
    except YAMLError as error:
        raise PipelineError(f"{name}: not valid YAML: {one_line(str(error))}") from error


def check(text: str, path: Path) -> Params:
    """Return the parameters in a text, or raise PipelineError, which lists everything that is wrong."""
    try:
        return Params.model_validate(parse(text, path))
    except ValidationError as error:
        lines = [
            ": ".join(filter(None, [".".join(map(str, e["loc"])), e["msg"].removeprefix("Value error, ")]))
            for e in error.errors()
        ]
        raise PipelineError(f"{path}: {'; '.join(lines)}") from error
