"""The answers of a `model.pt` to the test photos, computed by its ONNX model as the service does."""

import dataclasses
import re

import numpy as np
from numpy.typing import NDArray

from ml.data.dataset import Dataset, read_raw
from ml.data.ingest import RAW
from ml.evaluation.metrics import Floats
from ml.model.bundle import Bundle
from ml.model.errors import PipelineError, one_line
from ml.model.image import ImageError, decode
from ml.model.manifest import Manifest
from ml.model.onnx_model import OnnxModel


class IncomparableError(PipelineError):
    """A model that cannot answer these photos; the message says why."""


class MissingHereError(IncomparableError):
    """What the model needs to answer these photos is missing here: a photo, or memory."""


def answer_test_photos(model: Bundle, data: Dataset) -> dict[str, Floats]:
    """Answer the test photos anew: the metrics inside the model may be of other photos.

    Args:
        model: may need the photos in another size, or with another resize, than they were prepared; then they
            are read again from data/raw.
        data: the prepared photos.

    Returns:
        The outputs of the ONNX model: `probabilities` [N, classes], the columns in the order of the data's
        classes, and, if the model has an OOD score, `known` [N].

    Raises:
        IncomparableError: the classes differ, or the ONNX model does not run.
        MissingHereError: a photo is missing or has changed, or this machine has too little memory.
    """
    manifest = model.manifest
    if set(manifest.classes) != set(data.classes):
        unknown, missing = (
            ", ".join(sorted(set(one) - set(other))) or "none"
            for one, other in ((manifest.classes, data.classes), (data.classes, manifest.classes))
        )
        raise IncomparableError(
            f"its classes differ (only in the model: {unknown:.200}; only in the photos: {missing:.200})"
        )
    images, rows = data.images, data.rows("test")
    if (manifest.image_size, manifest.resize) != (data.image_size, data.resize):
        images = _PreparedAgain(manifest, data)
    try:
        outputs = OnnxModel(model.onnx).run(images, rows)
        probabilities = outputs["probabilities"]
    except PipelineError:  # about the photos
        raise
    except Exception as error:
        # ONNX Runtime has no class of its own for this error.
        if isinstance(error, MemoryError) or re.search(r"allocate memory|bad_alloc", str(error)):
            raise MissingHereError("this machine has too little memory for its ONNX model") from error
        raise IncomparableError(f"its ONNX model does not run: {one_line(str(error), 200)}") from error
    if probabilities.shape != (len(rows), len(data.classes)) or not np.isfinite(probabilities).all():
        raise IncomparableError("its ONNX model does not return one probability per class")
    columns = [manifest.classes.index(name) for name in data.classes]
    return outputs | {"probabilities": probabilities[:, columns]}


@dataclasses.dataclass(frozen=True)
class _PreparedAgain:
    """The photos of a data set, prepared as a model needs them when they are indexed."""

    manifest: Manifest
    data: Dataset

    def __len__(self) -> int:
        return len(self.data.paths)

    def __getitem__(self, rows: int | NDArray[np.int64], /) -> NDArray[np.uint8]:
        if isinstance(rows, np.ndarray):
            return np.stack([self[int(row)] for row in rows])
        size, resize = self.manifest.image_size, self.manifest.resize
        try:
            return decode(read_raw(self.data, rows, RAW), size, resize)
        except (OSError, ImageError) as error:
            path = RAW / self.data.paths[rows]
            raise MissingHereError(
                f"it needs photos of {size} pixels ({resize}); {path} cannot be prepared: {error}"
            ) from error
