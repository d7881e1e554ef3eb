"""The description of a model inside `model.pt`: plain values, checked whenever one is written or read."""

import dataclasses
import pkgutil
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Self, TypeGuard

from ml.model.errors import BundleError
from ml.model.image import RESIZES, Resize
from ml.model.reference import BOUNDS

FORMAT = 1
_NETWORKS = Path(__file__).with_name("networks")


def _modules(folder: Path) -> tuple[str, ...]:
    return tuple(sorted(one.name for one in pkgutil.iter_modules([str(folder)]) if not one.ispkg))


ARCHITECTURES = _modules(_NETWORKS)
"""The architectures with a module in `ml.model.networks`, listed without importing torch."""
LIBRARIES = _modules(_NETWORKS / "libraries")
"""The libraries whose models are architectures too, under the name `LIBRARY/MODEL`."""
ARCH_NAMES = (*ARCHITECTURES, *(f"{library}/MODEL" for library in LIBRARIES), "FIRST+SECOND")
"""What `arch` may be, for messages."""
UNKNOWN = "unknown"
"""Label for a photo that shows none of the classes."""
MAX_CLASSES = 1000
"""Largest number of classes: each one becomes a time series of several metrics."""
MAX_CLASS_NAME = 100
"""Longest name of a class, in characters."""

_MODEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}")  # no "hf-hub:" and no path
_MAX_NAME = 200  # of anything else, such as a metric, whose name may contain that of a class

_MAX_SENTENCES, _MAX_SENTENCE = 50, 1000
_MAX_VALUES = 10_000  # in `parameters_changed` or `known`
_MAX_DEPTH = 8
_MAX_TEXT = 10_000
_MAX_NUMBER = 1e300
_SURROGATE = re.compile("[\ud800-\udfff]")  # half a character, which UTF-8 cannot express


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The description of a model, stored in `extra/model.json` and beside the weights.

    Attributes:
        arch: one of `ARCHITECTURES`, or `LIBRARY/MODEL` with one of `LIBRARIES`; two of `ARCHITECTURES` with
            a plus sign between them are the networks of first and second look, see `ml.model.two_looks`.
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
        shortfalls: conditions that the model does not meet, which makes it a candidate; empty: it meets all.
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
    shortfalls: tuple[str, ...] = ()
    format: int = FORMAT

    def __post_init__(self) -> None:
        """Check each field.

        Raises:
            BundleError: a field has an invalid value; the message names the field.
        """
        # The values may be of any kind: the file's author wrote them, or whoever replaced the file.
        checks = {
            f"format {_shown(self.format)}, expected {FORMAT}": _is_integer(self.format, FORMAT, FORMAT),
            f"arch {_shown(self.arch)}, there are {', '.join(ARCH_NAMES)}": is_arch(self.arch),
            f"classes, expected 2 to {MAX_CLASSES} printable names": _are_classes(self.classes),
            "image_size": _is_integer(self.image_size, 8, 4096),
            "resize": isinstance(self.resize, str) and self.resize in RESIZES,
            "mean": _is_triple(self.mean, -1e6),
            "std": _is_triple(self.std, 1e-6),
            "temperature": _is_number(self.temperature, 1e-6, 1e6),
            "metrics": _has_names(self.metrics) and all(map(_is_number, self.metrics.values())),
            "created": _is_name(self.created, or_empty=True),
            "version": _is_name(self.version),
            "git_commit": _is_name(self.git_commit, or_empty=True),
            "dataset_md5": _is_name(self.dataset_md5, or_empty=True),
            "parameters_changed": isinstance(self.parameters_changed, Mapping)
            and _is_plain(self.parameters_changed),
            "known": _is_score(self.known),
            "reference": _is_reference(self.reference),
            "shortfalls": _are_sentences(self.shortfalls),
        }
        if bad := [name for name, good in checks.items() if not good]:
            raise BundleError(f"not a model description this version reads: bad {', '.join(bad)}")

    def to_dict(self) -> dict[str, Any]:
        """Return the plain values that go into the file."""
        lists = {name: list(getattr(self, name)) for name in ("classes", "mean", "std", "shortfalls")}
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
        for name in ("classes", "mean", "std", "shortfalls"):
            if isinstance(values.get(name), list):
                values[name] = tuple(values[name])
        return cls(**values)


def is_arch(name: object) -> bool:
    """Return whether an architecture may have this name; only its library knows whether it has the model."""
    if not isinstance(name, str):
        return False
    library, _, model = name.partition("/")
    if library in LIBRARIES:
        return _MODEL.fullmatch(model) is not None
    looks = name.split("+")
    return len(looks) <= 2 and set(looks) <= set(ARCHITECTURES)


def _shown(value: object) -> str:
    """Return a short text for an error message, whatever the value is."""
    return f"{value!r:.40}" if isinstance(value, str | float | bool) else type(value).__name__


def _is_name(value: object, or_empty: bool = False, longest: int = _MAX_NAME) -> bool:
    """Return whether it is a text for logs, metrics and JSON: printable, so without lone surrogates."""
    return (
        isinstance(value, str) and len(value) <= longest and value.isprintable() and bool(value or or_empty)
    )


def _is_integer(value: object, low: int, high: int) -> bool:
    return type(value) is int and low <= value <= high  # not bool, which is a subclass of int


def _is_number(value: object, low: float = -_MAX_NUMBER, high: float = _MAX_NUMBER) -> bool:
    return type(value) in (int, float) and low <= value <= high  # type: ignore[operator]  # false for NaN


def _is_triple(values: object, low: float) -> bool:
    return isinstance(values, tuple) and len(values) == 3 and all(_is_number(one, low, 1e6) for one in values)


def _are_classes(names: object) -> bool:
    if not isinstance(names, tuple) or not 2 <= len(names) <= MAX_CLASSES:
        return False
    return all(_is_name(name, longest=MAX_CLASS_NAME) for name in names) and len(set(names)) == len(names)


def _are_sentences(texts: object) -> bool:
    return (
        isinstance(texts, tuple)
        and len(texts) <= _MAX_SENTENCES
        and all(_is_name(text, longest=_MAX_SENTENCE) for text in texts)
    )


def _has_names(values: object, most: int = _MAX_VALUES) -> TypeGuard[Mapping[str, Any]]:
    return isinstance(values, Mapping) and len(values) <= most and all(map(_is_name, values))


def _is_plain(value: object) -> bool:
    """Return whether it consists of what JSON has, in reasonable number, depth and size."""
    level, count = [value], 0
    for _ in range(_MAX_DEPTH):
        # Tuples are no JSON, but the YAML and pickle readers return them.
        below: list[object] = []
        for one in level:
            if isinstance(one, Mapping):
                if not _has_names(one):
                    return False
                below.extend(one.values())
            elif isinstance(one, list | tuple):
                below.extend(one)
            elif not (one is None or isinstance(one, bool) or _is_number(one) or _is_text(one)):
                return False
            count += 1
            if count + len(below) > _MAX_VALUES:
                return False
        level = below
        if not level:
            return True
    return False


def _is_text(value: object) -> bool:
    if not isinstance(value, str) or len(value) > _MAX_TEXT:
        return False
    return not _SURROGATE.search(value)


def _is_score(known: object) -> bool:
    if not isinstance(known, Mapping) or not _is_plain(known):
        return False
    return not known or (_is_name(known.get("method")) and _is_number(known.get("threshold"), 0, 1))


def _is_reference(reference: object) -> bool:
    """Return whether it is what `ml.model.reference.describe` returns, few enough entries to be metrics."""
    return _has_names(reference, most=16) and all(
        _has_names(shares, MAX_CLASSES)
        and all(map(_is_number, shares.values()))
        and (name not in BOUNDS or all(map(_is_bound, shares)))
        for name, shares in reference.items()
    )


def _is_bound(text: str) -> bool:
    """Return whether it is a plain number: `float` also takes "1_0", other digits and blanks."""
    return re.fullmatch(r"-?(0|[1-9][0-9]{0,8})(\.[0-9]{1,18})?(e-0[1-9])?", text) is not None
