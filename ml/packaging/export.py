"""Exports a network to ONNX in float32, with everything that an answer needs inside the graph.

Input `image`; outputs `probabilities`, `known` (the OOD score, see `ml.model.ood`), `components` (principal
components of the features, for drift) and `evidence` (what each place of the photo says for each class).
"""

import warnings
from typing import cast

import torch

from ml.model.answering import Answering
from ml.model.networks import Network
from ml.model.ood import OodScore

OPSET = 20


def export(network: Network, temperature: float, image_size: int, known: OodScore | None = None) -> bytes:
    """Export a network to a serialized ONNX model that accepts any number of images.

    Args:
        network: the trained network.
        temperature: divides the logits before the softmax.
        image_size: height and width of the images, in pixels.
        known: the OOD score; None leaves the outputs `known` and `components` out.
    """
    module = Answering(network, temperature, known).eval()
    example = torch.zeros(2, image_size, image_size, 3, dtype=torch.uint8)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # the exporter itself uses deprecated parts of torch
        program = torch.onnx.export(
            module,
            (example,),
            input_names=["image"],
            output_names=["probabilities", *(["known", "components"] if known else []), "evidence"],
            dynamic_shapes={"image": {0: torch.export.Dim("N", min=1)}},
            opset_version=OPSET,
            dynamo=True,
            verbose=False,
        )
    assert program is not None
    return cast(bytes, program.model_proto.SerializeToString())
