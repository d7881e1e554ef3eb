"""Checkpoints read with torch: a `model.pt` with or without an ONNX model, or bare baseline weights."""

import dataclasses
import hashlib
import io
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from ml.model import bundle
from ml.model.errors import BundleError, first_line
from ml.model.examples import Example
from ml.model.manifest import Manifest
from ml.model.networks import build

_BASELINE_CLASSES = ("cat", "dog")


@dataclasses.dataclass(frozen=True)
class Checkpoint:
    """The content of a file.

    Attributes:
        manifest: the description in the file, or the one that the baseline's weights imply.
        state_dict: the weights, float32.
        known_state_dict: weights of the OOD score; empty: there is none.
        sha256: of the file, in hexadecimal.
        card: the model card in Markdown; empty: there is none.
        examples: photos with the label that each of them must get.
    """

    manifest: Manifest
    state_dict: dict[str, Tensor]
    known_state_dict: dict[str, Tensor]
    sha256: str
    card: str = ""
    examples: Sequence[Example] = ()


def read(path: Path) -> Checkpoint:
    """Read a checkpoint with torch. Its pickle is checked first, so that no code in it can run.

    Raises:
        BundleError: the file is not a `torch.save` ZIP, could run code, or holds something else.
        OSError: the file cannot be read.
    """
    data = path.read_bytes()
    sha256 = hashlib.sha256(data).hexdigest()
    bundle.check_archive(data)
    try:
        content = torch.load(io.BytesIO(data), map_location="cpu", weights_only=True)
    except Exception as error:  # torch raises many kinds of errors, with long messages
        raise BundleError(f"torch cannot load it: {first_line(error)}") from error
    if not isinstance(content, Mapping):
        raise BundleError(f"a {type(content).__name__}, expected a checkpoint or a state_dict")
    if "state_dict" in content and "arch" in content:
        weights, known = content["state_dict"], content.get("known_state_dict", {})
        manifest = Manifest.from_dict(content)
    else:
        weights, known = content, {}
        manifest = _describe_baseline(content, sha256)
    tensors, known_tensors = _tensors(weights, len(data)), _tensors(known, len(data))
    return Checkpoint(manifest, tensors, known_tensors, sha256, *bundle.read_extras(data, manifest.classes))


def _tensors(content: Any, file_bytes: int) -> dict[str, Tensor]:
    """Return the tensors of a state_dict as float32."""
    if not isinstance(content, Mapping) or not all(isinstance(value, Tensor) for value in content.values()):
        raise BundleError("its state_dict holds something other than tensors")
    # A few bytes can be stored as a tensor of any shape, which the conversion would write out.
    if sum(value.numel() * value.element_size() for value in content.values()) > file_bytes:
        raise BundleError("the tensors in its state_dict are larger than the file")
    return {
        str(name): value.float() if value.is_floating_point() else value for name, value in content.items()
    }


def _describe_baseline(content: Mapping[Any, Any], sha256: str) -> Manifest:
    """Return the description of a baseline, recognised by the names of its weights.

    Raises:
        BundleError: the names are others, or the last layer has other outputs than cat and dog.
    """
    names = {str(name) for name in content}
    for arch in ("simple_cnn", "simple_cnn_legacy"):
        with torch.device("meta"):
            expected = set(build(arch, len(_BASELINE_CLASSES)).state_dict())
        # Very old checkpoints lack the counters, which are used in training only.
        if names | {name for name in expected if name.endswith("num_batches_tracked")} == expected:
            break
    else:
        first = ", ".join(sorted(names)[:4]) or "none"
        more = f" and {len(names) - 4} more" if len(names) > 4 else ""
        raise BundleError(
            "neither a model.pt nor a state_dict of SimpleCNN or SimpleCNNLegacy; "
            f"its keys: {first[:120]}{more}"
        )
    shape = tuple(getattr(content["classifier.4.weight"], "shape", ()))
    if shape != (len(_BASELINE_CLASSES), 128):
        raise BundleError(f"a bare {arch} with a last layer of {shape}, expected (2, 128) for cat and dog")
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
