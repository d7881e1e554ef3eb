"""Runs the ONNX model of a `model.pt` with ONNX Runtime on the CPU, for the service and the pipeline.

`ml/__init__.py` turns ONNX Runtime's telemetry off before anything can import it.
"""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from ml.model.errors import BundleError, first_line

if TYPE_CHECKING:
    import onnxruntime


class Images(Protocol):
    """Photos uint8 [N, H, W, 3]: an array, or something that reads them from disk when it is indexed."""

    def __len__(self) -> int: ...

    def __getitem__(self, rows: int | NDArray[np.int64], /) -> NDArray[np.uint8]: ...


FITS_16_BITS = "products_fit_16_bits"
"""Metadata of an ONNX model whose int8 products can be added in 16 bits, see `ml.packaging.weight_ranges`."""
_FATAL = 4  # errors are raised; ONNX Runtime would log each one to standard error as well
_NO_FOLDER = "/nonexistent"
_BATCH = 32


def open_session(onnx: bytes, threads: int = 0) -> "onnxruntime.InferenceSession":
    """Load a serialized ONNX model.

    Args:
        onnx: the serialized model.
        threads: number of threads that one run uses; 0: one per CPU core.

    Raises:
        BundleError: ONNX Runtime cannot load the model.
    """
    import onnxruntime

    def opened(exact: str) -> onnxruntime.InferenceSession:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.inter_op_num_threads = 1
        # Threads that spin while they wait would take CPU time from requests that run in parallel.
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
        # CPUs without VNNI add two products of int8 in 16 bits, which may overflow. This makes them exact, in
        # 1.4 times the time; on other CPUs it changes nothing.
        options.add_session_config_entry("session.x64quantprecision", exact)
        # A model file has all its weights. Others would be read from the current folder, which may have .env.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", _NO_FOLDER)
        options.log_severity_level = _FATAL
        return onnxruntime.InferenceSession(onnx, options, providers=["CPUExecutionProvider"])

    try:
        if FITS_16_BITS.encode() in onnx:  # a serialized model contains its metadata as they are
            return opened("0")
        try:
            return opened("1")
        except onnxruntime.capi.onnxruntime_pybind11_state.Fail:
            # ONNX Runtime 1.32 can't do so with every network, such as timm's lcnet_050.
            return opened("0")
    except Exception as error:
        raise BundleError(f"its ONNX model cannot be loaded: {first_line(error)}") from error


class OnnxModel:
    """An ONNX model with the input `image` that answers for any number of images.

    Attributes:
        outputs: names of its outputs: `probabilities`, `evidence`, and, if the model has an OOD score,
            `known` and `components`.
    """

    def __init__(self, onnx: bytes, threads: int = 0) -> None:
        """Load a serialized ONNX model; for `threads` see `open_session`.

        Raises:
            BundleError: ONNX Runtime cannot load the model.
        """
        self._session = open_session(onnx, threads)
        self.outputs: list[str] = [output.name for output in self._session.get_outputs()]

    def run(
        self,
        images: Images,
        rows: NDArray[np.int64] | None = None,
        outputs: Sequence[str] | None = None,
    ) -> dict[str, NDArray[np.float64]]:
        """Return each output by name, for images in batches, so that memory stays bounded.

        Args:
            images: RGB pixels [N, H, W, 3]; only one batch is in memory.
            rows: positions in `images` to answer for, in this order; None: all images.
            outputs: names of the outputs that are needed; None: all outputs.
        """
        names = self.outputs if outputs is None else list(outputs)
        rows = np.arange(len(images)) if rows is None else rows
        batches = [
            self._session.run(names, {"image": np.ascontiguousarray(images[rows[first : first + _BATCH]])})
            for first in range(0, len(rows), _BATCH)
        ]
        arrays = (np.concatenate(parts) for parts in zip(*batches, strict=True))
        return {name: array.astype(np.float64) for name, array in zip(names, arrays, strict=True)}
