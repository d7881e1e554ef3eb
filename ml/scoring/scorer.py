"""Answers for photos, as rows of a table."""

import hashlib
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
from numpy.typing import NDArray

from ml import local_model
from ml.model.careful import CarefulDecoder
from ml.model.errors import AnswerError, ImageError, one_line
from ml.model.image import Decoded
from ml.model.sandbox.sandbox import NoWorkerError
from ml.scoring.sources import read_photo

SCHEMA = pa.schema([
    pa.field("path", pa.string(), nullable=False),
    pa.field("sha256", pa.string()),
    pa.field("width", pa.int32()),
    pa.field("height", pa.int32()),
    pa.field("label", pa.string()),
    pa.field("confidence", pa.float64()),
    pa.field("probabilities", pa.map_(pa.string(), pa.float64())),
    pa.field("known", pa.float64()),
    pa.field("error", pa.string()),
    pa.field("model_version", pa.string(), nullable=False),
])  # fmt: skip
"""Columns of the dataset, the same for every model. `probabilities` is a map by class and no struct: readers
such as DuckDB and Spark ignore the case of a struct's fields, and mix up the classes `Cat` and `cat`."""

_MAX_BYTES = 512 * 1024 * 1024
"""Memory that decoding one photo may take."""
_CPU_S, _SECONDS = 10, 120.0
"""Time that decoding a photo may take in a process of its own. The machine may be busy with other work."""
_ATTEMPTS, _PAUSE_S = 5, 1.0  # if the system lacks processes or memory


class Scorer:
    """One session of a model, with one thread per run; several threads can use it in parallel.

    Args:
        model_path: a `model.pt`.

    Raises:
        PipelineError: it can't be used.
    """

    def __init__(self, model_path: str | Path) -> None:
        self._model = local_model.load(Path(model_path))
        self._decoder = CarefulDecoder(_MAX_BYTES, at_once=2, cpu_s=_CPU_S, seconds=_SECONDS)

    def score(self, paths: Sequence[str]) -> pa.Table:
        """Return one row of `SCHEMA` per photo, in their order; a bad photo's row has an `error`.

        Every photo is decoded before the first one is classified. The CPU's caches then keep the code of
        one step at a time, which takes 7 % less time (docs/performance.md).
        """
        photos = [self._read(path) for path in paths]
        rows = [self._answer(row, pixels) for row, pixels in photos]
        return pa.Table.from_pylist(rows, SCHEMA)

    def _read(self, path: str) -> tuple[dict[str, Any], NDArray[np.uint8] | None]:
        """Return the beginning of a photo's row, and its pixels if it can be used."""
        row: dict[str, Any] = {"path": path, "model_version": self._model.manifest.version}
        try:
            data = read_photo(path)
            row["sha256"] = hashlib.sha256(data).hexdigest()
            decoded = self._decode(data)
        except (ImageError, NoWorkerError, MemoryError) as error:
            return row | _failure(error), None
        return row | {"width": decoded.width, "height": decoded.height}, decoded.pixels

    def _answer(self, row: dict[str, Any], pixels: NDArray[np.uint8] | None) -> dict[str, Any]:
        """Return the whole row."""
        if pixels is None:
            return row
        try:
            decision = self._model.decide(pixels)
        except (AnswerError, MemoryError) as error:
            return row | _failure(error)
        return row | {
            "label": decision.label,
            "confidence": max(decision.probabilities.values()),
            "probabilities": list(decision.probabilities.items()),
            "known": decision.known,
        }

    def _decode(self, data: bytes) -> Decoded:
        size, resize = self._model.manifest.image_size, self._model.manifest.resize
        for _ in range(_ATTEMPTS - 1):
            try:
                return self._decoder.read(data, size, resize)[0]
            except NoWorkerError:
                time.sleep(_PAUSE_S)
        return self._decoder.read(data, size, resize)[0]


def _failure(error: Exception) -> dict[str, str]:
    return {"error": one_line(str(error)) or type(error).__name__}
