"""One thread that copies photos and writes them, the queue in front of it, and one that drops old photos."""

import contextlib
import hashlib
import logging
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace

from app.collecting.awaiting import Candidate
from app.collecting.limits import DailyLimits
from app.inference.decoding import Decoder
from app.telemetry.metrics import Metrics
from ml.model import kept_photos
from ml.model.errors import ImageError, one_line
from ml.model.host import available_cpus
from ml.model.kept_photos import CONTRADICTED, MAX_SIDE, RANDOM, Record, Store
from ml.model.sandbox.sandbox import NoWorkerError

THREAD = "collect"
"""Name of the thread. It may be left behind, in a store that doesn't answer."""
FAILURES = QUEUE_FULL, STORE, UNUSABLE, STOPPING = ("queue_full", "store", "unusable", "stopping")
"""Why a photo is not kept, labels of a metric: too many wait, or it waited too long; the store failed; no
copy could be made within the limits; the service stopped."""

_MAX_WAITING = 64
_TRIAL = ".written-at-start"
_CPU_SHARE = 0.002
"""Share of the CPUs' time that copying and writing may take while all workers are busy. They cost more than
is counted, such as the fork of the process that copies: with 0.01, throughput fell by 4 %."""
_POLL_S, _TIDY_S = 0.05, 5.0
_REOPEN_S = 60.0
"""Least time between two new stores while writing fails: a new client of a bucket takes 0.1 s of CPU time."""
_STOP_S = 2.0

_log = logging.getLogger(__name__)


class Writer:
    """Writes photos one after the other; safe in all threads.

    The thread has the priority of those that speak HTTP. With a lower one, it could wait for a CPU while it
    holds Python's global lock, and everything would wait with it. So it rests instead: while all workers are
    busy, it takes no more than a small share of the CPUs' time.

    A second thread drops photos whose time is over, because the first one may wait for a store that hangs.

    Args:
        address: of the store.
        max_bytes: bytes of all photos in the queue, with their records.
        metrics: count what is kept and what is not.
        limits: of a day.
        decoder: makes the copies.
        busy: whether all workers are busy.
        tidy: called every few seconds.
    """

    def __init__(
        self,
        address: str,
        max_bytes: int,
        metrics: Metrics,
        limits: DailyLimits,
        decoder: Decoder,
        busy: Callable[[], bool],
        tidy: Callable[[], None],
    ) -> None:
        self._address, self._max_bytes, self._metrics = address, max_bytes, metrics
        self._limits, self._decoder, self._busy, self._tidy = limits, decoder, busy, tidy
        self._queue: deque[Candidate] = deque()
        self._bytes = 0
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._thread: threading.Thread | None = None
        self._tidying: threading.Thread | None = None
        self._store: Store | None = None
        self._reopen_at = 0.0
        self._failing = False

    def start(self) -> None:
        """Start the threads, unless they run already or the service stops."""
        if self._thread is None:
            with self._changed:
                if self._thread is None and not self._stopped.is_set():
                    with contextlib.suppress(RuntimeError):  # the system has no more threads now
                        self._tidying = self._tidying or _started(self._drop_old, f"{THREAD}-tidy")
                        self._thread = _started(self._run, THREAD)

    def put(self, candidate: Candidate) -> bool:
        """Have a photo written, or a record corrected; return False if it is dropped, which is counted."""
        self.start()
        with self._changed:
            fits = len(self._queue) < _MAX_WAITING and self._bytes + candidate.size <= self._max_bytes
            accepted = fits and self._thread is not None and not self._stopped.is_set()
            if accepted:
                self._queue.append(candidate)
                self._bytes += candidate.size
                self._changed.notify()
        if not accepted:
            self._drop(STOPPING if self._stopped.is_set() else QUEUE_FULL)
        return accepted

    def stop(self) -> None:
        """Write what is in the queue, for a moment at most; drop the rest."""
        self._stopped.set()
        with self._changed:
            self._changed.notify()
        if self._thread:
            self._thread.join(_STOP_S)
        with self._changed:
            left = len(self._queue)
            self._queue.clear()
        for _ in range(left):
            self._drop(STOPPING)

    def _run(self) -> None:
        try:  # so that a log line says early that it fails; and a bucket's client takes a second to import
            self._opened().write(_TRIAL, b"The service writes this file at its start.\n")
        except Exception as error:  # noqa: BLE001  (whatever it is, photos may be written later)
            self._failed(error)
        while (candidate := self._next()) is not None:
            began = time.thread_time()
            cpu_s = self._process(candidate)
            del candidate  # or its photo would stay in memory until the next one comes
            self._rest(time.thread_time() - began + cpu_s)

    def _next(self) -> Candidate | None:
        with self._changed:
            self._changed.wait_for(lambda: self._queue or self._stopped.is_set())
            if not self._queue:
                return None
            candidate = self._queue.popleft()
            self._bytes -= candidate.size
            return candidate

    def _drop_old(self) -> None:
        """Drop photos whose time is over, until the service stops; corrections of records have no photo."""
        while not self._stopped.wait(_TIDY_S):
            self._tidy()
            with self._changed:
                waiting = len(self._queue)
                self._queue = deque(each for each in self._queue if each.photo is None or not each.over)
                self._bytes = sum(each.size for each in self._queue)
                dropped = waiting - len(self._queue)
            for _ in range(dropped):
                self._drop(QUEUE_FULL)

    def _process(self, candidate: Candidate) -> float:
        """Write a photo or correct a record; return the CPU time that other processes spent, in seconds."""
        cpu_s = 0.0
        try:
            if candidate.photo is None:
                self._correct(candidate.record)
                return cpu_s
            copy, cpu_s = self._decoder.copy(candidate.photo, MAX_SIDE)
            record = replace(
                candidate.record,
                width=copy.width,
                height=copy.height,
                sha256=hashlib.sha256(copy.essential).hexdigest(),
            )
            self._keep(replace(candidate, photo=copy.essential, record=record))
        except (ImageError, NoWorkerError) as error:
            _log.debug("a photo can't be copied: %s", error)
            self._drop(UNUSABLE)
        except Exception as error:  # noqa: BLE001  (whatever went wrong, the next photo may be written)
            self._drop(STORE)
            self._failed(error)
        return cpu_s

    def _keep(self, candidate: Candidate) -> None:
        record, photo = candidate.record, candidate.photo or b""
        # Checked again: others were kept while it was in the queue, and its size is known only now.
        drawn = RANDOM in record.reasons
        if refusal := self._limits.refusal(candidate.client, drawn, len(photo)):
            self._drop(refusal)
            return
        kept_photos.keep(self._opened(), record, photo)
        self._failing = False
        self._limits.count(candidate.client, drawn, len(photo))
        for reason in record.reasons:
            self._metrics.collected.labels(reason).inc()

    def _correct(self, feedback: Record) -> None:
        """Add what feedback says to a kept record.

        The record may be missing: dropped, or deleted on request. The service may not have the right to read.
        """
        store = self._opened()
        try:
            record = Record.from_json(store.read(feedback.path))
        except (FileNotFoundError, PermissionError, kept_photos.RecordError):
            return
        contradicted = feedback.actual != record.answer["label"] and CONTRADICTED not in record.reasons
        reasons = (*record.reasons, CONTRADICTED) if contradicted else record.reasons
        store.write(feedback.path, replace(record, actual=feedback.actual, reasons=reasons).to_json())
        if contradicted:
            self._metrics.collected.labels(CONTRADICTED).inc()

    def _opened(self) -> Store:
        if self._store is None:
            self._store = kept_photos.open_store(self._address)
        return self._store

    def _rest(self, cpu_s: float) -> None:
        """Wait until so much CPU time is a small share of all CPUs' time, or until a worker is free."""
        until = time.monotonic() + cpu_s / (_CPU_SHARE * available_cpus())
        while time.monotonic() < until and self._busy() and not self._stopped.wait(_POLL_S):
            pass

    def _failed(self, error: Exception) -> None:
        if not self._failing:  # one line per outage
            reason = one_line(str(error), 200) or type(error).__name__
            _log.warning("photos can't be kept, because COLLECT_TO can't be used: %s", reason)
        self._failing = True
        # Credentials may have been replaced: the client of a bucket reads their file only once.
        if (now := time.monotonic()) >= self._reopen_at:
            self._store, self._reopen_at = None, now + _REOPEN_S

    def _drop(self, reason: str) -> None:
        self._metrics.not_collected.labels(reason).inc()


def _started(target: Callable[[], None], name: str) -> threading.Thread:
    """Return a running thread; raises RuntimeError if the system has no more threads."""
    thread = threading.Thread(target=target, name=name, daemon=True)
    thread.start()
    return thread
