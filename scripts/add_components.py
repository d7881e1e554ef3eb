"""Add what the service needs for drift by features to a model.pt that was packaged without it.

The ONNX model gets the output `components`, which its OOD score computes anyway, and the manifest gets the
training reference of `known` and of the components. Weights and answers stay as they are, so the version does
too. Needs the prepared photos of the model's training in data/processed: the statistics that the model has
already are computed again, and must be the same.
"""

import dataclasses
import io
import sys
from pathlib import Path

import numpy as np
import onnx

from ml.data.dataset import Dataset
from ml.model import bundle
from ml.model.errors import PipelineError
from ml.model.onnx_model import OnnxModel
from ml.model.reference import COMPONENTS
from scripts.common import arguments

_NARROW = "known.narrow.weight"


def add_output(model: bytes) -> bytes:
    """Return a serialized ONNX model with the output `components` [N, COMPONENTS].

    Raises:
        PipelineError: it has the output already, or its OOD score has another method than `concepts`.
    """
    parsed = onnx.load_from_string(model)
    graph = parsed.graph
    narrow = [node for node in graph.node if any(name.startswith(_NARROW) for name in node.input)]
    layers = [node for node in narrow if node.op_type == "Gemm"]
    if "components" in {output.name for output in graph.output} or len(layers) != 1:
        raise PipelineError("its ONNX model has components already, or no OOD score of the method concepts")
    # If the model is int8, these are the numbers that the score itself uses, so that the runtime can still
    # compute them as int8.
    source = layers[0].output[0]
    for kind in ("QuantizeLinear", "DequantizeLinear"):
        source = next((n.output[0] for n in graph.node if n.op_type == kind and n.input[0] == source), source)
    names = ("components.starts", "components.ends", "components.axes")
    for name, value in zip(names, (0, COMPONENTS, 1), strict=True):
        graph.initializer.append(onnx.numpy_helper.from_array(np.array([value], np.int64), name))
    graph.node.append(onnx.helper.make_node("Slice", [source, *names], ["components"], name="components"))
    shape: list[str | int] = ["N", COMPONENTS]
    graph.output.append(onnx.helper.make_tensor_value_info("components", onnx.TensorProto.FLOAT, shape))
    return bytes(parsed.SerializeToString())


def extend(path: Path) -> None:
    """Rewrite a model.pt.

    Raises:
        PipelineError: it cannot be extended, or data/processed has other photos.
    """
    import torch  # it takes seconds

    from ml.packaging.describe import reference_statistics  # imports torch

    data, content = Dataset.load(), bundle.read(path)
    extended = add_output(content.onnx)
    rows = data.rows("test")
    before, answers = (OnnxModel(one).run(data.images, rows) for one in (content.onnx, extended))
    if any((before[name] != answers[name]).any() for name in before):
        raise PipelineError("the extended ONNX model answers differently")
    reference = reference_statistics(data, answers)
    if changed := [name for name, shares in content.manifest.reference.items() if reference[name] != shares]:
        raise PipelineError(f"data/processed has other photos: {', '.join(changed)} would differ")
    tensors = torch.load(io.BytesIO(path.read_bytes()), weights_only=True)
    bundle.write(
        path,
        dataclasses.replace(content.manifest, reference=reference),
        tensors["state_dict"],
        extended,
        tensors.get("known_state_dict"),
        content.card,
        content.examples,
    )


def main() -> int:
    """Run the command line; return the exit code."""
    parser = arguments.parser("add_components", __doc__, "app/default/model.pt")
    parser.add_argument("model", type=Path, help="the model.pt, which is rewritten")
    path = parser.parse_args().model
    try:
        extend(path)
    except (PipelineError, OSError, ValueError) as error:
        print(f"error: {path}: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
