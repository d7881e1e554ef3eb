"""Decides which photos are kept, and why; the only part that a request waits for."""

import random
import time
import uuid
from collections.abc import Callable, Hashable
from dataclasses import replace

from app import memory
from app.collecting.awaiting import Awaiting, Candidate
from app.collecting.limits import BYTES, CLIENT, PHOTOS, DailyLimits
from app.collecting.writer import FAILURES, Writer
from app.inference.classify import Prediction
from app.inference.decoding import Decoder
from app.inference.engine import Engine
from app.settings import Settings
from app.telemetry.metrics import Metrics
from ml.model import kept_photos
from ml.model.kept_photos import CONTRADICTED, RANDOM, UNKNOWN, UNSURE, Record

_MB = 1024 * 1024


class Collector:
    """Keeps photos if COLLECT_TO is set; otherwise it does nothing. Safe in all threads.

    Args:
        settings: COLLECT_*.
        metrics: count what is kept and what is not.
        decoder: makes copies of photos.
        busy: whether all workers are busy, so that the writer should take its time.
        chance: returns random numbers from 0 to 1.
    """

    def __init__(
        self,
        settings: Settings,
        metrics: Metrics,
        decoder: Decoder,
        busy: Callable[[], bool],
        chance: Callable[[], float] = random.random,
    ) -> None:
        self._settings, self._metrics, self._chance = settings, metrics, chance
        self._writer: Writer | None = None
        if settings.collect_to is None:
            return
        # For photos that wait for the writer, and as much again for those that wait for feedback.
        max_bytes = memory.for_waiting_photos()
        self._awaiting = Awaiting(max_bytes)
        self._limits = DailyLimits(
            settings.collect_photos_per_day,
            settings.collect_mb_per_day * _MB,
            settings.collect_photos_per_client,
            settings.collect_random > 0,
        )
        self._writer = Writer(
            settings.collect_to, max_bytes, metrics, self._limits, decoder, busy, self._tidy
        )
        # A rate needs a series that already exists, or the first failure would be missed.
        for reason in kept_photos.REASONS:
            metrics.collected.labels(reason)
        for reason in (PHOTOS, BYTES, CLIENT, *FAILURES):
            metrics.not_collected.labels(reason)

    def _tidy(self) -> None:
        """Forget what nothing asks for any more: photos without a reason, and addresses of another day."""
        self._awaiting.tidy()
        self._limits.tidy()

    def start(self) -> None:
        """Start the writer, unless it runs already; otherwise the first photo does so."""
        if self._writer:
            self._writer.start()

    def stop(self) -> None:
        """Write what waits, for a moment at most; drop the rest."""
        if self._writer:
            self._writer.stop()

    def offer(
        self,
        photo: bytes,
        prediction: Prediction,
        engine: Engine,
        request_id: str,
        client: Hashable,
        allowed: bool | None,
    ) -> None:
        """Keep a photo if there is a reason and its sender allows it; returns at once.

        Args:
            photo: as it was sent.
            prediction: the answer for it.
            engine: what answered.
            request_id: of the answer, with which feedback may come.
            client: who sent it, for the limits only.
            allowed: whether the sender allows it; None: the sender doesn't say so.
        """
        settings = self._settings
        if not self._writer or not (settings.collect_consent == "always" if allowed is None else allowed):
            return
        reasons = self._reasons(prediction)
        record = Record(
            id=uuid.uuid4().hex,
            request_id=request_id,
            time=time.strftime(kept_photos.TIME, time.gmtime()),
            reasons=reasons,
            random_share=settings.collect_random,
            answer={
                "label": prediction.label,
                "probabilities": prediction.probabilities,
                "known": prediction.known,
            },
            model={"version": engine.manifest.version, "sha256": engine.sha256},
        )
        candidate = Candidate(photo, record, client)
        if reasons:
            if not self._pass_on(self._writer, candidate):
                return
            candidate = replace(candidate, photo=None)
        self._awaiting.add(candidate)
        self._writer.start()

    def correct(self, request_id: str, actual: str) -> None:
        """Take feedback on an answer: keep its photo if it was wrong, or add the label to a kept one.

        Args:
            request_id: of the answer.
            actual: the label that the user says is right.
        """
        candidate = self._awaiting.pop(request_id) if self._writer else None
        if not self._writer or candidate is None:
            return
        record = replace(candidate.record, actual=actual)
        if candidate.photo is None:
            self._writer.put(replace(candidate, record=record))
        elif actual != record.answer["label"]:
            self._pass_on(self._writer, replace(candidate, record=replace(record, reasons=(CONTRADICTED,))))

    def _reasons(self, prediction: Prediction) -> tuple[str, ...]:
        # The draw depends on nothing else, so that figures of the random share hold for all photos.
        drawn = self._chance() < self._settings.collect_random
        unknown = prediction.label not in prediction.probabilities
        unsure = not unknown and prediction.confidence < self._settings.collect_unsure
        given = {UNKNOWN: unknown, UNSURE: unsure, RANDOM: drawn}
        return tuple(reason for reason, holds in given.items() if holds)

    def _pass_on(self, writer: Writer, candidate: Candidate) -> bool:
        """Return whether a photo waits to be written now; otherwise it is dropped and counted."""
        drawn = RANDOM in candidate.record.reasons
        if refusal := self._limits.refusal(candidate.client, drawn):
            self._metrics.not_collected.labels(refusal).inc()
            return False
        return writer.put(candidate)
