"""From encoded photos to labels. Knows nothing of HTTP."""

import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from app.engine import Answers, Engine, refuses
from app.explain import Explanation, explain
from app.metrics import Metrics
from app.settings import Settings
from ml.image import Decoded, ImageError, read
from ml.manifest import UNKNOWN, Manifest
from ml.reference import brightness

_BATCH = 8
"""Photos in one run of the network: bounds the memory that a request with many of them takes."""


@dataclass(frozen=True)
class Prediction:
    """The answer for one photo.

    Attributes:
        label: the likeliest class, or `UNKNOWN`.
        probabilities: every class with its probability, rounded to 6 digits; they sum to 1.
        known: 0 to 1, whether the photo shows any of the classes, rounded to 6 digits; None: the model can't
            tell.
        explanation: where the evidence for the likeliest class is, if it was asked for.
    """

    label: str
    probabilities: dict[str, float]
    known: float | None = None
    explanation: Explanation | None = None

    @property
    def confidence(self) -> float:
        """Probability of the likeliest class."""
        return max(self.probabilities.values())


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


class NoEvidenceError(ValueError):
    """A model that can't tell where its evidence is; the message is fit for a user."""


def classify(
    engine: Engine, photos: Sequence[bytes], settings: Settings, metrics: Metrics, explained: bool = False
) -> list[Prediction]:
    """Return a prediction for each photo, in their order.

    Args:
        engine: the loaded network.
        photos: encoded images, at least one.
        settings: MAX_PIXELS, the largest image that is decoded; REQUEST_TIMEOUT_S of a processor's time,
            after which no further photo is begun; UNKNOWN.
        metrics: where times and labels are counted.
        explained: whether each is explained.

    Raises:
        NoEvidenceError: it is to be, and the model can't.
        PhotoError: one of them can't be used; none is answered then.
        TooMuchWorkError: they take too long, as a hundred small files of many pixels can.
    """
    if explained and "evidence" not in engine.outputs:
        raise NoEvidenceError("this model can't tell where its evidence is")
    until = time.thread_time() + settings.request_timeout_s
    manifest = engine.manifest
    may_refuse = refuses(engine, settings.unknown)
    decoded = []
    for number, photo in enumerate(photos, 1):
        if time.thread_time() > until:
            raise TooMuchWorkError(f"{settings.request_timeout_s} s were not enough for {len(photos)} photos")
        started = time.perf_counter()
        try:
            decoded.append(read(photo, manifest.image_size, manifest.resize, settings.max_pixels))
        except ImageError as error:
            raise PhotoError(number, error) from error
        metrics.preprocess.observe(time.perf_counter() - started)
    predictions = []
    for first in range(0, len(decoded), _BATCH):
        part = decoded[first : first + _BATCH]
        images = part[0].pixels[np.newaxis] if len(part) == 1 else np.stack([photo.pixels for photo in part])
        started = time.perf_counter()
        answers = engine.answer(images)
        metrics.inference.observe(time.perf_counter() - started)
        predictions += [
            _prediction(manifest, answers, number, seen, may_refuse, explained)
            for number, seen in enumerate(part)
        ]
    for seen, prediction in zip(decoded, predictions, strict=True):
        _count(seen, prediction, metrics)
    return predictions


def _count(photo: Decoded, prediction: Prediction, metrics: Metrics) -> None:
    metrics.predictions.labels(prediction.label).inc()
    metrics.confidence.observe(prediction.confidence)
    metrics.brightness.observe(brightness(photo.pixels))
    metrics.aspect_ratio.observe(photo.width / photo.height)
    metrics.short_side.observe(min(photo.width, photo.height))


def _prediction(
    manifest: Manifest, answers: Answers, number: int, photo: Decoded, may_refuse: bool, explained: bool
) -> Prediction:
    row = answers.probabilities[number].tolist()
    top = max(range(len(row)), key=row.__getitem__)
    label, known, explanation = manifest.classes[top], None, None
    if answers.known is not None:
        known = _score(float(answers.known[number]))
        if may_refuse and known < manifest.known["threshold"]:
            label = UNKNOWN
    if explained and answers.evidence is not None:
        explanation = explain(answers.evidence[number], top, photo, manifest.resize)
    return Prediction(label, _rounded(manifest.classes, row, top), known, explanation)


def _score(value: float) -> float:
    """Return it as a score from 0 to 1: a foreign model may answer what is none, or no number at all."""
    return round(min(max(value, 0.0), 1.0), 6) if math.isfinite(value) else 0.0


def _rounded(classes: tuple[str, ...], row: list[float], top: int) -> dict[str, float]:
    rounded = [round(value, 6) for value in row]
    # What rounding adds or loses goes to the likeliest class, where it matters least.
    rounded[top] = round(1.0 - sum(rounded[:top]) - sum(rounded[top + 1 :]), 6)
    return dict(zip(classes, rounded, strict=True))
