"""The description of a model inside `model.pt`: plain values, checked whenever one is written or read."""

import dataclasses
import math
import pkgutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeGuard

from ml.model.errors import BundleError
from ml.model.image import RESIZES, Resize

FORMAT = 1
ARCHITECTURES = tuple(
    sorted(module.name for module in pkgutil.iter_modules([str(Path(__file__).with_name("networks"))]))
)
"""Names that `arch` may have: the modules of `ml.model.networks`, listed without importing torch."""
UNKNOWN = "unknown"
"""Label for a photo that shows none of the classes."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The description of a model, stored in `extra/model.json` and beside the weights.

    Attributes:
        arch: one of `ARCHITECTURES`.
        classes: class names, in the order of the network's outputs.
        image_size: height and width of the input, in pixels.
        resize: how a photo becomes a square, see `ml.model.image.read`.
        mean: per-channel mean of inputs scaled to 0..1.
        std: per-channel standard deviation of inputs scaled to 0..1.
        temperature: logits are divided by it before the softmax.
        metrics: figures of the evaluation, numbers by name.
        created: ISO 8601 time in UTC.
        version: name of this model in answers, logs and releases.
        git_commit: commit of the code that made it, with `-dirty` if files differed from it; or empty.
        parameters_changed: parameters that differed from that commit's params.yaml, values by dotted name.
        dataset_md5: MD5 of the photos according to DVC, or empty.
        known: the OOD score's `method`, see `ml.model.ood`, and the `threshold` below which a photo counts as
            unknown; empty: the model has no OOD score.
        reference: training reference statistics, see `ml.model.reference.describe`; empty: there are none.
        format: version of this layout.
    """

    arch: str
    classes: tuple[str, ...]
    image_size: int
    resize: Resize
    mean: tuple[float, ...]
    std: tuple[float, ...]
    temperature: float
    metrics: Mapping[str, float]
    created: str
    version: str
    git_commit: str = ""
    dataset_md5: str = ""
    parameters_changed: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    known: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reference: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Check each field.

        Raises:
            BundleError: a field has an invalid value; the message names the field.
        """
        checks = {
            f"format {self.format!r}, expected {FORMAT}": self.format == FORMAT,
            f"arch {self.arch!r:.40}, there are {', '.join(ARCHITECTURES)}": self.arch in ARCHITECTURES,
            "classes": _all(self.classes, str) and len(set(self.classes)) == len(self.classes) >= 2,
            "image_size": isinstance(self.image_size, int) and 8 <= self.image_size <= 4096,
            "resize": self.resize in RESIZES,
            "mean": _all(self.mean, float) and len(self.mean) == 3,
            "std": _all(self.std, float) and len(self.std) == 3 and min(self.std) > 0,
            "temperature": _all((self.temperature,), float) and self.temperature > 0,
            "metrics": _has_names(self.metrics),
            "created": isinstance(self.created, str),
            "version": isinstance(self.version, str) and bool(self.version),
            "git_commit": isinstance(self.git_commit, str),
            "dataset_md5": isinstance(self.dataset_md5, str),
            "parameters_changed": _has_names(self.parameters_changed),
            "known": _is_score(self.known),
            "reference": _is_reference(self.reference),
        }
        if bad := [name for name, good in checks.items() if not good]:
            raise BundleError(f"not a model description this version reads: bad {', '.join(bad)}")

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values that go into the file."""
        lists = {"classes": list(self.classes), "mean": list(self.mean), "std": list(self.std)}
        return dataclasses.asdict(self) | lists

    @classmethod
    def from_dict(cls, plain: object) -> Self:
        """Return the description from a `to_dict`; unknown keys, of later versions, are ignored.

        Raises:
            BundleError: it is not a mapping, a key is missing, or a value is invalid.
        """
        if not isinstance(plain, Mapping):
            raise BundleError("the model description is not a mapping")
        values = {f.name: plain[f.name] for f in dataclasses.fields(cls) if f.name in plain}
        needed = (f for f in dataclasses.fields(cls) if f.default is f.default_factory is dataclasses.MISSING)
        if missing := [f.name for f in needed if f.name not in plain]:
            raise BundleError(f"the model description lacks {', '.join(missing)}")
        for name in ("classes", "mean", "std"):
            if isinstance(values[name], list):
                values[name] = tuple(values[name])
        return cls(**values)


def _is_score(known: object) -> bool:
    if not isinstance(known, Mapping):
        return False
    method, threshold = known.get("method"), known.get("threshold", -1)
    return not known or (isinstance(method, str) and _all((threshold,), float) and 0 <= threshold <= 1)


def _is_reference(reference: object) -> bool:
    """Whether it has the form of `ml.model.reference.describe`, and few enough entries to be metrics."""
    return (
        _has_names(reference)
        and len(reference) <= 16
        and all(
            _has_names(shares) and len(shares) <= 1000 and _all(tuple(shares.values()), float)
            for shares in reference.values()
        )
    )


def _has_names(values: object) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(values, Mapping) and all(isinstance(name, str) for name in values)


def _all(values: object, kind: type) -> bool:
    if not isinstance(values, tuple):
        return False
    if kind is float:
        return all(type(value) in (int, float) and math.isfinite(value) for value in values)
    return all(isinstance(value, kind) and bool(value) for value in values)
