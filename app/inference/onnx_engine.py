"""The default engine: runs the ONNX model in `model.pt` with ONNX Runtime on the CPU."""

from collections.abc import Iterable

import numpy as np
import onnxruntime
from numpy.typing import NDArray

from app.inference.engine import Answers, Engine
from app.inference.watchdog import WATCHDOG
from ml.model.bundle import Bundle
from ml.model.errors import AnswerError, BundleError
from ml.model.onnx_model import open_session
from ml.model.reference import COMPONENTS

_MAX_GRID = 64
"""Largest height and width of `evidence`: the response contains each of its numbers."""


class OnnxEngine(Engine):
    """An ONNX Runtime session; several threads can use it in parallel."""

    name = "onnx"

    def __init__(self, bundle: Bundle, threads: int, limit_s: float) -> None:
        """Load the ONNX model, check it against the manifest, and try it.

        Args:
            bundle: the content of the model file.
            threads: how many threads one run uses.
            limit_s: how long a run may take, in seconds.

        Raises:
            BundleError: the ONNX model can't be loaded, doesn't match the manifest, or isn't usable.
        """
        super().__init__(bundle)
        self._session = open_session(bundle.onnx, threads)
        self._limit_s = limit_s
        WATCHDOG.start()
        self.outputs = self._check_signature()
        self._without_evidence = [name for name in self.outputs if name != "evidence"]
        self.warm_up()

    def answer(self, images: NDArray[np.uint8], evidence: bool = True) -> Answers:
        """Run the network; see `Engine`.

        Raises:
            AnswerError: the run takes longer than the limit.
        """
        outputs = self.outputs if evidence else self._without_evidence
        options = onnxruntime.RunOptions()
        WATCHDOG.watch(options, self._limit_s)
        try:
            values = self._session.run(outputs, {"image": images}, options)
        except Exception:
            if options.terminate:
                raise AnswerError(f"a run of the network takes longer than {self._limit_s:g} s") from None
            raise
        finally:
            WATCHDOG.forget(options)
        return Answers(**dict(zip(outputs, values, strict=True)))

    def _check_signature(self) -> list[str]:
        """Return the names of the outputs that the service uses."""
        size, classes = self.manifest.image_size, len(self.manifest.classes)
        inputs = {node.name: node for node in self._session.get_inputs()}
        outputs = {node.name: node for node in self._session.get_outputs()}
        if list(inputs) != ["image"] or "probabilities" not in outputs:
            raise BundleError(
                f"its ONNX model has inputs {_shown(inputs)} and outputs {_shown(outputs)}; "
                "expected input image and output probabilities"
            )
        _check(inputs["image"], "tensor(uint8)", size, size, 3)
        _check(outputs["probabilities"], "tensor(float)", classes)
        if "known" in outputs:
            _check(outputs["known"], "tensor(float)")
        if "components" in outputs:
            count = next(iter(outputs["components"].shape[1:]), None)
            if not isinstance(count, int) or not 1 <= count <= COMPONENTS:
                raise BundleError(f"its ONNX model has {count} components, expected 1 to {COMPONENTS}")
            _check(outputs["components"], "tensor(float)", count)
        if "evidence" in outputs:
            sides = outputs["evidence"].shape[2:]
            if len(sides) != 2 or not all(isinstance(side, int) and 1 <= side <= _MAX_GRID for side in sides):
                raise BundleError(
                    f"its ONNX model has evidence {sides}, expected fixed height and width up to {_MAX_GRID}"
                )
            _check(outputs["evidence"], "tensor(float)", classes, *sides)
        # Without a threshold in the manifest, the OOD score has no meaning, nor have components without a
        # reference.
        usable = {"probabilities", "evidence", *(["known"] if self.manifest.known else [])}
        usable |= {"components"} if "component_1" in self.manifest.reference else set()
        return [name for name in outputs if name in usable]


def _shown(names: Iterable[str]) -> str:
    return f"{list(names)!s:.100}"


def _check(node: onnxruntime.NodeArg, kind: str, *shape: int) -> None:
    """Raise BundleError unless type and shape match; the first dimension (images) must be free."""
    actual = list(node.shape)
    free = bool(actual) and not isinstance(actual[0], int)
    fits = len(actual) == len(shape) + 1 and all(
        not isinstance(dimension, int) or dimension == expected
        for dimension, expected in zip(actual[1:], shape, strict=True)
    )
    if node.type != kind or not free or not fits:
        raise BundleError(
            f"its ONNX model has {node.name} {node.type} {actual}, expected {kind} {['N', *shape]}"
        )
