"""What `model.pt` says of itself: plain values, each checked whenever one is written or read."""

import dataclasses
import math
from collections.abc import Mapping
from typing import Any, Self

from ml.errors import BundleError
from ml.image import RESIZES, Resize

FORMAT = 1
ARCHITECTURES = ("efficientnet_lite0", "simple_cnn", "simple_cnn_legacy")
"""Names that `arch` may have; `ml.networks` builds each."""
UNKNOWN = "unknown"
"""Label that is answered for a photo of none of the classes."""


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What `model.pt` says of its network, in `extra/model.json` and beside the weights.

    Attributes:
        arch: one of `ARCHITECTURES`.
        classes: class names, in the order of the network's outputs.
        image_size: height and width of the input, in pixels.
        resize: how a photo becomes a square, see `ml.image.decode`.
        mean: per-channel mean of inputs scaled to 0..1.
        std: per-channel standard deviation of inputs scaled to 0..1.
        temperature: logits are divided by it before the softmax.
        metrics: figures of the evaluation, names to numbers.
        created: ISO 8601 time in UTC.
        version: what this model is called in answers, logs and releases.
        git_commit: commit of the code that made it, or empty.
        dataset_md5: MD5 that DVC gave the photos, or empty.
        known: how it is told that a photo shows any of the classes: `method`, see `ml.known`, and
            `threshold`, under which it shows none; empty: it isn't told.
        reference: what photos and answers were like, see `ml.reference.describe`; empty: not known.
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
    known: Mapping[str, Any] = dataclasses.field(default_factory=dict)
    reference: Mapping[str, Mapping[str, float]] = dataclasses.field(default_factory=dict)
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Check each field.

        Raises:
            BundleError: a field is missing its meaning; the message names it.
        """
        checks = {
            f"format {self.format!r}, expected {FORMAT}": self.format == FORMAT,
            f"arch {self.arch!r:.40}, known are {', '.join(ARCHITECTURES)}": self.arch in ARCHITECTURES,
            "classes": _all(self.classes, str) and len(set(self.classes)) == len(self.classes) >= 2,
            "image_size": isinstance(self.image_size, int) and 8 <= self.image_size <= 4096,
            "resize": self.resize in RESIZES,
            "mean": _all(self.mean, float) and len(self.mean) == 3,
            "std": _all(self.std, float) and len(self.std) == 3 and min(self.std) > 0,
            "temperature": _all((self.temperature,), float) and self.temperature > 0,
            "metrics": isinstance(self.metrics, Mapping) and _all(tuple(self.metrics), str),
            "created": isinstance(self.created, str),
            "version": isinstance(self.version, str) and bool(self.version),
            "git_commit": isinstance(self.git_commit, str),
            "dataset_md5": isinstance(self.dataset_md5, str),
            "known": _known(self.known),
            "reference": _shares(self.reference),
        }
        if bad := [name for name, good in checks.items() if not good]:
            raise BundleError(f"not a model description this version reads: bad {', '.join(bad)}")

    def to_dict(self) -> dict[str, Any]:
        """Return plain values only, as they go into the file."""
        plain = {f.name: getattr(self, f.name) for f in dataclasses.fields(self)}
        return plain | {
            "classes": list(self.classes),
            "mean": list(self.mean),
            "std": list(self.std),
            "metrics": dict(self.metrics),
            "known": dict(self.known),
            "reference": {name: dict(shares) for name, shares in self.reference.items()},
        }

    @classmethod
    def from_dict(cls, plain: object) -> Self:
        """Read what `to_dict` wrote; unknown keys are left aside, so that a later version may add some.

        Raises:
            BundleError: it is no mapping, a key is missing, or a value is of the wrong kind.
        """
        if not isinstance(plain, Mapping):
            raise BundleError("the model description is no mapping")
        fields = dataclasses.fields(cls)
        needed = [f for f in fields if f.default is f.default_factory is dataclasses.MISSING]
        missing = [f.name for f in needed if f.name not in plain]
        if missing:
            raise BundleError(f"the model description lacks {', '.join(missing)}")
        known = {f.name: plain[f.name] for f in fields if f.name in plain}
        for name in ("classes", "mean", "std"):
            if isinstance(known[name], list):
                known[name] = tuple(known[name])
        return cls(**known)


def _known(known: object) -> bool:
    if not isinstance(known, Mapping):
        return False
    if not known:
        return True
    threshold = known.get("threshold", -1)
    return isinstance(known.get("method"), str) and _all((threshold,), float) and 0 <= threshold <= 1


def _shares(reference: object) -> bool:
    """Whether it is what `ml.reference.describe` returns, and few enough to be metrics."""
    if not isinstance(reference, Mapping) or len(reference) > 16:
        return False
    return all(
        isinstance(name, str)
        and isinstance(shares, Mapping)
        and len(shares) <= 1000
        and all(isinstance(key, str) for key in shares)
        and _all(tuple(shares.values()), float)
        for name, shares in reference.items()
    )


def _all(values: object, kind: type) -> bool:
    if not isinstance(values, tuple):
        return False
    if kind is float:
        return all(type(value) in (int, float) and math.isfinite(value) for value in values)
    return all(isinstance(value, kind) and bool(value) for value in values)
