"""Checkpoints read with torch: a `model.pt` with or without an ONNX model, or bare baseline weights."""

import dataclasses
import hashlib
import io
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ml.model import bundle
from ml.model.errors import BundleError
from ml.model.manifest import Manifest

if TYPE_CHECKING:
    import torch

_BASELINE_CLASSES = ("cat", "dog")
_CONVOLUTIONS = {"simple_cnn": (0, 4, 8, 12), "simple_cnn_legacy": (0, 3, 6, 9)}
"""Positions of the four convolutions in `features`, with and without BatchNorm after each."""


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The content of a file.

    Attributes:
        manifest: the description in the file, or the one that the baseline's weights imply.
        state_dict: the weights, float32.
        known_state_dict: weights of the OOD score; empty: there is none.
        sha256: of the file, in hexadecimal.
        card: the model card in Markdown; empty: there is none.
    """

    manifest: Manifest
    state_dict: "dict[str, torch.Tensor]"
    known_state_dict: "dict[str, torch.Tensor]"
    sha256: str
    card: str = ""


def read(path: Path) -> Checkpoint:
    """Read a checkpoint with torch. Its pickle is checked first, so that no code in it can run.

    Raises:
        BundleError: the file is not a `torch.save` ZIP, could run code, or holds something else.
        OSError: the file cannot be read.
    """
    import torch

    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    bundle.check_archive(data)
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of errors, with long messages
        raise BundleError(f"torch cannot load it: {str(error).partition(chr(10))[0][:120]}") from error
    if not isinstance(content, Mapping):
        raise BundleError(f"a {type(content).__name__}, expected a checkpoint or a state_dict")
    known: Any = {}
    if "state_dict" in content and "arch" in content:
        weights, known = content["state_dict"], content.get("known_state_dict", {})
        manifest = Manifest.from_dict(content)
    else:
        weights = content
        manifest = _baseline(content, sha256)
    return Checkpoint(manifest, _tensors(weights), _tensors(known), sha256, bundle.read_card(data))


def _tensors(content: Any) -> "dict[str, torch.Tensor]":
    import torch

    if not isinstance(content, Mapping) or not all(
        isinstance(value, torch.Tensor) for value in content.values()
    ):
        raise BundleError("its state_dict holds something other than tensors")
    return {
        str(name): value.float() if value.is_floating_point() else value for name, value in content.items()
    }


def _baseline(content: Mapping[Any, Any], sha256: str) -> Manifest:
    """Return the description of a baseline, recognised by the keys of its weights.

    Raises:
        BundleError: the keys are others; the message lists some.
    """
    keys = {str(key) for key in content}
    for arch, places in _CONVOLUTIONS.items():
        expected = {f"features.{place}.{name}" for place in places for name in ("weight", "bias")}
        expected |= {f"classifier.{place}.{name}" for place in (1, 4) for name in ("weight", "bias")}
        if arch == "simple_cnn":
            names = ("weight", "bias", "running_mean", "running_var", "num_batches_tracked")
            expected |= {f"features.{place + 1}.{name}" for place in places for name in names}
        # Very old checkpoints lack the counters, which are used in training only.
        if keys | {key for key in expected if key.endswith("num_batches_tracked")} == expected:
            return _describe_baseline(arch, content["classifier.4.weight"], sha256)
    first = ", ".join(sorted(keys)[:4]) or "none"
    more = f" and {len(keys) - 4} more" if len(keys) > 4 else ""
    raise BundleError(
        f"neither a model.pt nor a state_dict of SimpleCNN or SimpleCNNLegacy; its keys: {first[:120]}{more}"
    )


def _describe_baseline(arch: str, last: Any, sha256: str) -> Manifest:
    outputs = tuple(getattr(last, "shape", ()))
    if outputs != (len(_BASELINE_CLASSES), 128):
        raise BundleError(f"a bare {arch} with a last layer of {outputs}, expected (2, 128) for cat and dog")
    return Manifest(
        arch=arch,
        classes=_BASELINE_CLASSES,
        image_size=224,
        resize="squash",
        mean=(0.0, 0.0, 0.0),
        std=(1.0, 1.0, 1.0),
        temperature=1.0,
        metrics={},
        created="",
        version=sha256[:12],
    )
