"""The MLflow model of a `model.pt`: bytes of photos in, labels and probabilities out.

MLflow imports this module when it loads a registered version, from a copy that is stored with the version. Of
this project, it may import only `ml.model`, and it needs no torch.
"""

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from ml.model import bundle
from ml.model.bundle import Bundle
from ml.model.decision import decide_label
from ml.model.errors import AnswerError
from ml.model.image import ImageError, decode
from ml.model.onnx_model import OnnxModel

INPUT = "image"
OUTPUTS = ("label", "probabilities", "known", "error")
_CHUNK = 32  # photos that are decoded before they are classified, so that memory stays bounded


class PhotoClassifier:
    """Answers like the service."""

    def __init__(self, model: Bundle) -> None:
        self._manifest, self._onnx_model = model.manifest, OnnxModel(model.onnx)

    def predict(self, model_input: pd.DataFrame, params: dict[str, Any] | None = None) -> pd.DataFrame:
        """Classify the photos in the column `image`, each the content of a file.

        Returns:
            A row per photo with the columns `label`, `probabilities` (by class), `known` (the OOD score, if
            the model has one) and `error`. If a photo can't be used, `error` says why, and the others are
            empty. An empty text is "" and not None, of which MLflow's Spark UDF makes "None".
        """
        photos = list(model_input[INPUT])
        chunks = (photos[first : first + _CHUNK] for first in range(0, len(photos), _CHUNK))
        rows = [row for chunk in chunks for row in self._classify(chunk)]
        return pd.DataFrame(rows, model_input.index, list(OUTPUTS), dtype=object)

    def _classify(self, photos: Iterable[Any]) -> Iterator[tuple[Any, ...]]:
        decoded = [self._decode(photo) for photo in photos]
        pixels = [one for one in decoded if not isinstance(one, str)]
        outputs = self._onnx_model.run(np.stack(pixels)) if pixels else {}
        answers = zip(
            outputs.get("probabilities", ()), outputs.get("known", [None] * len(pixels)), strict=True
        )
        for one in decoded:
            if isinstance(one, str):
                yield "", {}, None, one
            else:
                outputs_of_one = next(answers)
                try:
                    answer = decide_label(self._manifest, *outputs_of_one)
                except AnswerError as error:
                    yield "", {}, None, str(error)
                else:
                    yield answer.label, answer.probabilities, answer.known, ""

    def _decode(self, photo: Any) -> NDArray[np.uint8] | str:
        """Return the pixels, or the reason why the photo can't be used."""
        try:
            return decode(bytes(photo), self._manifest.image_size, self._manifest.resize)
        except ImageError as error:
            return str(error)
        except (TypeError, ValueError):
            return "the photo must be the bytes of a file"


def _load_pyfunc(path: str) -> PhotoClassifier:
    """Load a `model.pt`; MLflow calls this function by its name."""
    return PhotoClassifier(bundle.read(Path(path)))
