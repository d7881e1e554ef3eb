"""The default engine: the ONNX twin in `model.pt`, run by ONNX Runtime on the CPU."""

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from app.engine import Answers, fault
from ml.bundle import Bundle
from ml.errors import BundleError
from ml.manifest import Manifest

_FATAL = 4  # what goes wrong is raised; the runtime's own lines on standard error would say it twice

_MAX_GRID = 64
"""Largest height and width of `evidence`: every number of it is part of an answer."""


class OnnxEngine:
    """An ONNX Runtime session; `run` is safe from several threads."""

    name = "onnx"

    def __init__(self, bundle: Bundle, threads: int) -> None:
        """Load the graph, check it against the description, and run it once.

        Raises:
            BundleError: the graph can't be loaded, or isn't what the description says.
        """
        self.manifest: Manifest = bundle.manifest
        self.sha256: str = bundle.sha256
        self.card: str = bundle.card
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that wait by spinning would take the cores from the requests that run beside them.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        options.log_severity_level = _FATAL
        try:
            self._session = onnxruntime.InferenceSession(
                bundle.onnx, options, providers=["CPUExecutionProvider"]
            )
        except Exception as error:
            raise BundleError(f"its ONNX twin can't be loaded: {_first_line(error)}") from error
        self.outputs: list[str] = self._check_signature()
        self._warm_up()

    def answer(self, images: NDArray[np.uint8]) -> Answers:
        """Answer for RGB pixels [N, image_size, image_size, 3]."""
        values = self._session.run(self.outputs, {"image": images})
        return Answers(**dict(zip(self.outputs, values, strict=True)))

    def _check_signature(self) -> list[str]:
        """Return the names of those outputs that are of use."""
        size, classes = self.manifest.image_size, len(self.manifest.classes)
        inputs = {node.name: node for node in self._session.get_inputs()}
        outputs = {node.name: node for node in self._session.get_outputs()}
        if list(inputs) != ["image"] or "probabilities" not in outputs:
            raise BundleError(
                f"its ONNX twin has inputs {list(inputs)} and outputs {list(outputs)}; "
                "expected input image and output probabilities"
            )
        _check("image", inputs["image"], "tensor(uint8)", (size, size, 3))
        _check("probabilities", outputs["probabilities"], "tensor(float)", (classes,))
        if "known" in outputs:
            _check("known", outputs["known"], "tensor(float)", ())
        if "evidence" in outputs:
            sides = outputs["evidence"].shape[2:]
            if len(sides) != 2 or not all(isinstance(side, int) and 1 <= side <= _MAX_GRID for side in sides):
                raise BundleError(
                    f"its ONNX twin has evidence {sides}, expected fixed height and width up to {_MAX_GRID}"
                )
            _check("evidence", outputs["evidence"], "tensor(float)", (classes, *sides))
        # Where nothing says from where on a score is that of a known photo, it says nothing.
        usable = {"probabilities", "evidence", *(["known"] if self.manifest.known else [])}
        return [name for name in outputs if name in usable]

    def _warm_up(self) -> None:
        """Pay for first-time allocations now, and see that the answers are of use."""
        size = self.manifest.image_size
        try:
            answers = self.answer(np.zeros((1, size, size, 3), np.uint8))
        except Exception as error:
            raise BundleError(f"its ONNX twin doesn't run: {_first_line(error)}") from error
        if found := fault(answers, len(self.manifest.classes)):
            raise BundleError(f"its ONNX twin {found}")


def _check(name: str, node: onnxruntime.NodeArg, kind: str, shape: tuple[int, ...]) -> None:
    """Refuse another type, another shape after the first dimension, or a fixed number of images."""
    found = list(node.shape)
    free = bool(found) and not isinstance(found[0], int)
    fits = len(found) == len(shape) + 1 and all(
        not isinstance(dimension, int) or dimension == expected
        for dimension, expected in zip(found[1:], shape, strict=True)
    )
    if node.type != kind or not free or not fits:
        expected = ["N", *shape]
        raise BundleError(f"its ONNX twin has {name} {node.type} {found}, expected {kind} {expected}")


def _first_line(error: Exception) -> str:
    return str(error).strip().partition("\n")[0][:200] or type(error).__name__
