"""Who may predict: so many at once, so many in line behind them, the rest are told to come back."""

import contextlib
import logging
import math
import os
import sys
import threading
import time
from collections import deque
from typing import Generic, Protocol, TypeVar

REFUSAL = "app.refusal"
"""Key in the WSGI environment: the RejectedError of a request that isn't to be predicted, or None."""

_NICENESS = 10
_END_S = 2.0  # with DRAIN_SECONDS at its default the process ends before an orchestrator's 30 s are over

_log = logging.getLogger(__name__)


class Task(Protocol):
    """A complete request."""

    def service(self) -> None:
        """Answer it."""


_T = TypeVar("_T", bound=Task)


class RejectedError(Exception):
    """A prediction that isn't made now.

    Attributes:
        reason: `queue_full`, `timeout` or `draining`, the label of its metric.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Admission(Generic[_T]):
    """Threads that predict, and a line of bounded length and patience that they serve in order.

    A slot is freed only when the work in it has ended, so that a timeout never adds work to an overload. The
    threads give way to those that speak HTTP: a processor that is busy predicting keeps /health waiting
    neither for it nor, with Python's global lock, for another that does.

    Args:
        slots: how many predictions run at once.
        queue: how many wait for a slot.
        timeout_s: how long each of them waits, in seconds.
    """

    def __init__(self, slots: int, queue: int, timeout_s: float) -> None:
        self.slots, self._places, self._timeout_s = slots, slots + queue, timeout_s
        self._line: deque[tuple[float, _T]] = deque()  # with the moment at which patience ends
        self._changed = threading.Condition()
        self._threads: list[threading.Thread] = []
        # Of those to come: the thread that starts one may be one of them, and has given way already.
        self._niceness = os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS
        self._working = 0
        self._ended = False
        self.draining = False
        """Set when the service is about to stop: what began before is served, what comes after is not."""

    @property
    def full(self) -> bool:
        """Whether every slot and every place in line is taken."""
        return self._working + len(self._line) >= self._places

    @property
    def waiting(self) -> int:
        """How many are in line for a slot."""
        return len(self._line)

    def enter(self, task: _T) -> None:
        """Let a slot's thread answer it, in its turn.

        Raises:
            RejectedError: every place is taken, or there is no thread to serve the line.
        """
        with self._changed:
            if self.full:
                raise RejectedError("queue_full", "every prediction slot and every place in line is taken")
            if len(self._threads) < self.slots:
                self._start_thread()
            self._line.append((time.monotonic() + self._timeout_s, task))
            self._changed.notify()

    def patience(self) -> float:
        """Return the seconds after which the first in line has waited too long; infinite without a line."""
        try:
            return self._line[0][0] - time.monotonic()
        except IndexError:
            return math.inf

    def overdue(self) -> list[tuple[_T, RejectedError]]:
        """Take out of the line who has waited too long, each with what to tell it."""
        late = []
        with self._changed:
            while self.patience() <= 0:
                late.append(self._line.popleft()[1])
        message = f"no prediction slot was free within {self._timeout_s:g} s"
        return [(task, RejectedError("timeout", message)) for task in late]

    def dismiss(self) -> list[tuple[_T, RejectedError]]:
        """Take everyone out of the line, each with what to tell it: the time for a drain is over."""
        with self._changed:
            line = [task for _, task in self._line]
            self._line.clear()
        return [(task, RejectedError("draining", "the service is stopping")) for task in line]

    def end(self) -> None:
        """Let the threads go, and give those at work a moment to finish."""
        with self._changed:
            self._ended = True
            self._changed.notify_all()
        until = time.monotonic() + _END_S
        for thread in self._threads:
            thread.join(max(0.0, until - time.monotonic()))

    def _start_thread(self) -> None:
        thread = threading.Thread(target=self._serve, name=f"predict-{len(self._threads)}", daemon=True)
        try:
            thread.start()
        except RuntimeError as error:  # the system gives no more: those that there are serve the line
            if not self._threads:
                raise RejectedError("queue_full", "no thread can be started to predict in") from error
        else:
            self._threads.append(thread)

    def _serve(self) -> None:
        _give_way(self._niceness)
        while (task := self._next()) is not None:
            try:
                task.service()
            except Exception:  # noqa: BLE001  (a thread that died would take its slot along)
                _log.exception("a request could not be answered")
            finally:
                del task  # a connection that has ended is not kept until the next comes
                with self._changed:
                    self._working -= 1

    def _next(self) -> _T | None:
        with self._changed:
            while not self._line and not self._ended:
                self._changed.wait()
            if self._ended:
                return None
            self._working += 1
            return self._line.popleft()[1]


def _give_way(niceness: int) -> None:
    if sys.platform == "linux":  # elsewhere it would hold for the whole process (setpriority(2), notes)
        with contextlib.suppress(OSError):  # a sandbox may refuse the call: predictions then give no way
            os.setpriority(os.PRIO_PROCESS, 0, niceness)
