"""From encoded photos to predictions; independent of HTTP."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from app.inference.decoding import Decoder
from app.inference.engine import Engine
from app.settings import Settings
from app.telemetry.metrics import Metrics
from app.telemetry.request_trace import stage
from ml.model.decision import decide_label
from ml.model.explain import Explanation, explain
from ml.model.image import Decoded, ImageError
from ml.model.reference import brightness


@dataclass(frozen=True)
class Prediction:
    """The prediction for one photo.

    Attributes:
        label, probabilities, known: see `ml.model.decision.Decision`.
        explanation: where the evidence for the most likely class is; None: not requested.
    """

    label: str
    probabilities: dict[str, float]
    known: float | None = None
    explanation: Explanation | None = None

    @property
    def confidence(self) -> float:
        """Probability of the most likely class."""
        return max(self.probabilities.values())


class TooMuchWorkError(ValueError):
    """The photos need too much CPU time; the message is for the user."""


def classify(
    engine: Engine,
    decoder: Decoder,
    photos: Sequence[bytes | NDArray[np.uint8]],
    settings: Settings,
    metrics: Metrics,
    explained: bool = False,
    sizes: Sequence[tuple[int, int] | None] = (),
) -> list[Prediction]:
    """Return a prediction for each photo, in their order.

    Args:
        engine: the loaded network.
        decoder: decodes the photos.
        photos: encoded images, at least one; or pixels as the network gets them, [size, size, 3], RGB. The
            drift statistics don't count the size of pixels, which is no photo's.
        settings: REQUEST_TIMEOUT_S, the CPU time after which no further photo is decoded or
            classified; UNKNOWN.
        metrics: where times and labels are counted.
        explained: whether each prediction gets an explanation, if the model can give one.
        sizes: width and height of each photo before its client made it smaller, for the drift statistics;
            None, or nothing at all: as it was decoded.

    Raises:
        ImageError: one of the photos can't be used, so there are no predictions.
        AnswerError: the network answers too late, or with something other than probabilities.
        TooMuchWorkError: the photos need too much CPU time, such as small files with very many pixels.
        NoWorkerError: the system lacks what decoding needs.
    """
    began, elsewhere_s = time.thread_time(), 0.0
    manifest = engine.manifest

    def check_time() -> None:
        late = time.thread_time() - began + elsewhere_s > settings.request_timeout_s
        if late and len(photos) > 1:
            raise TooMuchWorkError(f"{len(photos)} photos need more than {settings.request_timeout_s} s")

    decoded = []
    for number, photo in enumerate(photos, 1):
        check_time()
        if not isinstance(photo, bytes):
            decoded.append(Decoded(photo, 0, 0))
            continue
        try:
            with stage("decode", metrics.preprocess):
                each, cpu_s = decoder.read(photo, manifest.image_size, manifest.resize)
        except ImageError as error:
            if len(photos) == 1:
                raise
            raise type(error)(f"file {number} of {len(photos)}: {error}") from error
        decoded.append(each)
        elsewhere_s += cpu_s
    results = []
    for each in decoded:  # one by one: a batch is no faster, and takes memory for good
        check_time()
        with stage("inference", metrics.inference):
            answer = engine.answer(each.pixels[np.newaxis], explained)
        score = None if answer.known is None else float(answer.known[0])
        decision = decide_label(manifest, answer.probabilities[0], score, settings.unknown)
        explanation = None
        if explained and answer.evidence is not None:
            explanation = explain(answer.evidence[0], decision.likeliest, each, manifest.resize)
        prediction = Prediction(decision.label, decision.probabilities, decision.known, explanation)
        results.append((prediction, None if answer.components is None else answer.components[0].tolist()))
    for each, (prediction, components), size in zip(
        decoded, results, sizes or [None] * len(decoded), strict=True
    ):
        _count(each, prediction, metrics, size or (each.width, each.height))
        if components is not None:
            metrics.count_components(components)
    return [prediction for prediction, _ in results]


def _count(photo: Decoded, prediction: Prediction, metrics: Metrics, size: tuple[int, int]) -> None:
    width, height = size
    metrics.predictions.labels(prediction.label).inc()
    metrics.confidence.observe(prediction.confidence)
    metrics.brightness.observe(brightness(photo.pixels))
    if prediction.known is not None:
        metrics.known.observe(prediction.known)
    if height:
        metrics.aspect_ratio.observe(width / height)
        metrics.short_side.observe(min(size))
