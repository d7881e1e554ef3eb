"""Admission of predictions: a fixed number of workers and a queue of bounded length; the rest is rejected."""

import contextlib
import logging
import math
import os
import sys
import threading
import time
from collections import deque
from typing import Generic, Protocol, TypeVar

from werkzeug.exceptions import ServiceUnavailable

REJECTION = "app.rejection"
"""Key in the WSGI environment: the RejectedError of a rejected prediction, or None. See `app.http`."""

FETCHED = "app.fetched"
"""Key in the WSGI environment: the photo at the URL in the body, or the exception that explains why there is
none; None if the body has no URL. See `app.http.fetching`."""

WORKER = "predict-"
"""Prefix of the names of the threads that predict."""

_NICENESS = 10
_MOMENT_S = 0.25  # between two requests of a full load, a worker is free for less
_STOP_S = 2.0

_log = logging.getLogger(__name__)


class Task(Protocol):
    """A complete request."""

    def service(self) -> None:
        """Answer it."""


_T = TypeVar("_T", bound=Task)


class RejectedError(ServiceUnavailable):
    """A prediction is rejected: 503, and the client may try again.

    Attributes:
        reason: `queue_full`, `timeout`, `draining`, `uploads`, `fetches` or `no_resources`, the label of its
            metric.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(f"{message}; try again", retry_after=1)
        self.reason = reason


def queue_full() -> RejectedError:
    """Return the reason for which a prediction is rejected if no more can wait."""
    return RejectedError("queue_full", "every worker is busy and the queue is full")


class Admission(Generic[_T]):
    """Worker threads that predict, and the queue in front of them, which is served in order.

    A worker is free only when its work has ended, so a timeout never adds work to an overload. On Linux, the
    workers have a lower priority than the threads that speak HTTP: /health waits neither for a CPU that is
    busy predicting nor, because of Python's global lock, for a thread that waits for such a CPU.

    Args:
        workers: how many predictions run in parallel.
        queue: how many predictions can wait.
        timeout_s: how long a prediction may wait, in seconds.
    """

    def __init__(self, workers: int, queue: int, timeout_s: float) -> None:
        self.workers, self._places, self._timeout_s = workers, workers + queue, timeout_s
        self._queue: deque[tuple[float, _T]] = deque()  # with the time at which the wait becomes too long
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        # Computed here: a worker can be started by another worker, whose niceness is raised already.
        self._niceness = _own_niceness() + _NICENESS
        self._working = 0
        self._saturated_until = 0.0
        self._stopped = False
        self.draining = False
        """Set when the service is about to stop: requests in progress are answered, later ones rejected."""

    @property
    def full(self) -> bool:
        """Whether every worker is busy and the queue is full."""
        return self._working + len(self._queue) >= self._places

    @property
    def saturated(self) -> bool:
        """Whether every worker is busy, or was a moment ago."""
        return self._working >= self.workers or time.monotonic() < self._saturated_until

    @property
    def waiting(self) -> int:
        """Number of predictions in the queue."""
        return len(self._queue)

    def submit(self, task: _T) -> None:
        """Have a worker answer a request, in its turn.

        Raises:
            RejectedError: the queue is full, or there is no worker and none can be started.
        """
        with self._changed:
            if self.full:
                raise queue_full()
            if len(self._threads) < self.workers:
                self._start_worker()
            self._queue.append((time.monotonic() + self._timeout_s, task))
            self._changed.notify()

    def seconds_to_timeout(self) -> float:
        """Return the seconds until the first in the queue has waited too long; infinite if it is empty."""
        try:
            return self._queue[0][0] - time.monotonic()
        except IndexError:
            return math.inf

    def remove_timed_out(self) -> list[tuple[_T, RejectedError]]:
        """Remove requests that have waited too long from the queue; return each with its rejection."""
        late = []
        with self._changed:
            while self.seconds_to_timeout() <= 0:
                late.append(self._queue.popleft()[1])
        message = f"no worker was free within {self._timeout_s:g} s"
        return [(task, RejectedError("timeout", message)) for task in late]

    def remove_all(self) -> list[tuple[_T, RejectedError]]:
        """Empty the queue at the end of a drain; return each request with its rejection."""
        with self._changed:
            tasks = [task for _, task in self._queue]
            self._queue.clear()
        return [(task, RejectedError("draining", "the service is stopping")) for task in tasks]

    def stop(self) -> None:
        """End the workers; those that are predicting get a moment to finish."""
        with self._changed:
            self._stopped = True
            self._changed.notify_all()
        deadline = time.monotonic() + _STOP_S
        for thread in self._threads:
            thread.join(max(0.0, deadline - time.monotonic()))

    def _start_worker(self) -> None:
        thread = threading.Thread(target=self._work, name=f"{WORKER}{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system has no more threads: existing workers serve the queue
            if not self._threads:
                raise RejectedError("queue_full", "can't start a worker thread") from error
        else:
            self._threads.append(thread)

    def _work(self) -> None:
        _lower_priority(self._niceness)
        while (task := self._next()) is not None:
            try:
                task.service()
            except Exception:  # noqa: BLE001  (an exception must not end the worker)
                _log.exception("a request could not be answered")
            finally:
                del task  # don't keep a closed connection until the next request
                with self._changed:
                    if self._working >= self.workers:
                        self._saturated_until = time.monotonic() + _MOMENT_S
                    self._working -= 1

    def _next(self) -> _T | None:
        with self._changed:
            while not self._queue and not self._stopped:
                self._changed.wait()
            if self._stopped:
                return None
            self._working += 1
            return self._queue.popleft()[1]


def _own_niceness() -> int:
    return os.getpriority(os.PRIO_PROCESS, 0) if hasattr(os, "getpriority") else 0  # Windows has none


def _lower_priority(niceness: int) -> None:
    # On other systems than Linux it would apply to the whole process (setpriority(2), notes).
    if sys.platform == "linux" and hasattr(os, "setpriority"):
        with contextlib.suppress(OSError):  # a sandbox may deny it: workers then keep their priority
            os.setpriority(os.PRIO_PROCESS, 0, niceness)
