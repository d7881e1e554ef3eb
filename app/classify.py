"""From encoded photos to labels. Knows nothing of HTTP."""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.engine import Engine
from app.metrics import Metrics
from ml.image import Decoded, ImageError, read
from ml.reference import brightness

_BATCH = 8
"""Photos in one run of the network: bounds the memory that a request with many of them takes."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one photo.

    Attributes:
        label: the likeliest class.
        probabilities: every class with its probability, rounded to 6 digits; they sum to 1.
    """

    label: str
    probabilities: dict[str, float]

    @property
    def confidence(self) -> float:
        """Probability of the label."""
        return self.probabilities[self.label]


class PhotoError(ValueError):
    """A photo that can't be used.

    Attributes:
        number: which of the photos, from 1.
        reason: what is wrong with it.
    """

    def __init__(self, number: int, reason: ImageError) -> None:
        super().__init__(str(reason))
        self.number = number
        self.reason = reason


class TooMuchWorkError(ValueError):
    """Photos that would hold a slot for too long; the message is fit for a user."""


def classify(
    engine: Engine, photos: Sequence[bytes], max_pixels: int, max_seconds: float, metrics: Metrics
) -> list[Prediction]:
    """Return a prediction for each photo, in their order.

    Args:
        engine: the loaded network.
        photos: encoded images, at least one.
        max_pixels: the largest image that is decoded.
        max_seconds: of a processor's time, after which no further photo is begun.
        metrics: where times and labels are counted.

    Raises:
        PhotoError: one of them can't be used; none is answered then.
        TooMuchWorkError: they take too long, as a hundred small files of many pixels can.
    """
    until = time.thread_time() + max_seconds
    manifest = engine.manifest
    decoded = []
    for number, photo in enumerate(photos, 1):
        if time.thread_time() > until:
            raise TooMuchWorkError(f"{max_seconds:g} s were not enough for {len(photos)} photos")
        started = time.perf_counter()
        try:
            decoded.append(read(photo, manifest.image_size, manifest.resize, max_pixels))
        except ImageError as error:
            raise PhotoError(number, error) from error
        metrics.preprocess.observe(time.perf_counter() - started)
    predictions = []
    for first in range(0, len(decoded), _BATCH):
        batch = [photo.pixels for photo in decoded[first : first + _BATCH]]
        images = batch[0][np.newaxis] if len(batch) == 1 else np.stack(batch)
        started = time.perf_counter()
        rows = engine.predict(images)
        metrics.inference.observe(time.perf_counter() - started)
        predictions += [_prediction(manifest.classes, row.tolist()) for row in rows]
    for seen, prediction in zip(decoded, predictions, strict=True):
        _count(seen, prediction, metrics)
    return predictions


def _count(photo: Decoded, prediction: Prediction, metrics: Metrics) -> None:
    metrics.predictions.labels(prediction.label).inc()
    metrics.confidence.observe(prediction.confidence)
    metrics.brightness.observe(brightness(photo.pixels))
    metrics.aspect_ratio.observe(photo.width / photo.height)
    metrics.short_side.observe(min(photo.width, photo.height))


def _prediction(classes: tuple[str, ...], row: list[float]) -> Prediction:
    top = max(range(len(row)), key=row.__getitem__)
    rounded = [round(value, 6) for value in row]
    # What rounding adds or loses goes to the label, where it matters least.
    rounded[top] = round(1.0 - sum(rounded[:top]) - sum(rounded[top + 1 :]), 6)
    return Prediction(classes[top], dict(zip(classes, rounded, strict=True)))
