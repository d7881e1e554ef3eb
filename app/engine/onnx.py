"""The default engine: the ONNX twin in `model.pt`, run by ONNX Runtime on the CPU."""

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from ml.bundle import Bundle, BundleError, Manifest

_FATAL = 4  # what goes wrong is raised; the runtime's own lines on standard error would say it twice


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
        self._check_signature()
        self._warm_up()

    def predict(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """Return probabilities [N, classes] for RGB pixels [N, image_size, image_size, 3]."""
        probabilities: NDArray[np.float32] = self._session.run(["probabilities"], {"image": images})[0]
        return probabilities

    def _check_signature(self) -> None:
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

    def _warm_up(self) -> None:
        """Pay for first-time allocations now, and see that the answer is a distribution."""
        size = self.manifest.image_size
        try:
            answer = self.predict(np.zeros((1, size, size, 3), np.uint8))
        except Exception as error:
            raise BundleError(f"its ONNX twin doesn't run: {_first_line(error)}") from error
        if answer.shape != (1, len(self.manifest.classes)) or not abs(float(answer.sum()) - 1) < 1e-3:
            raise BundleError(f"its ONNX twin answers no probabilities (shape {answer.shape})")


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
