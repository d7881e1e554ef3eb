"""Who may predict: so many at once, so many in line behind them, the rest are told to come back."""

import contextvars
import os
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

REFUSAL = "app.refusal"
"""Key in the WSGI environment: the RejectedError of a request that the server knows it can't take."""

_NICENESS = 10
_T = TypeVar("_T")


class RejectedError(Exception):
    """A prediction that isn't made now.

    Attributes:
        reason: `queue_full`, `timeout`, `disconnected` or `draining`, the label of its metric.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Admission:
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
        self._places, self._timeout_s = slots + queue, timeout_s
        self._taken = 0
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(slots, "predict", initializer=_give_way)
        self.draining = False
        """Set when the service is about to stop: what began before is served, what comes after is not."""

    @property
    def full(self) -> bool:
        """Whether every slot and every place in line is taken."""
        return self._taken >= self._places

    def run(self, work: Callable[[], _T], gone: Callable[[], bool] = bool) -> _T:
        """Do the work in a slot, in the caller's context, and return what it returns.

        Args:
            work: what to do; what it raises is raised here.
            gone: whether the client has hung up; asked when its turn comes.

        Raises:
            RejectedError: the line is full, the wait too long, or nobody waits for the answer.
        """
        with self._lock:
            if self.full:
                raise queue_full()
            self._taken += 1
        context = contextvars.copy_context()
        turn = self._threads.submit(context.run, self._work, work, gone)
        try:
            return turn.result(self._timeout_s)
        except TimeoutError:
            if not turn.cancel():  # begun, or even ended by an error of this kind
                return turn.result()
            self._leave()
            raise RejectedError(
                "timeout", f"no prediction slot was free within {self._timeout_s:g} s"
            ) from None
        finally:
            # An error that the work raised holds this frame by its traceback, and `turn` holds the error: the
            # photo and all its pixels would stay until the garbage collector finds the cycle.
            del turn

    def _work(self, work: Callable[[], _T], gone: Callable[[], bool]) -> _T:
        try:
            if gone():
                raise RejectedError("disconnected", "the client has gone")
            return work()
        finally:
            self._leave()

    def _leave(self) -> None:
        with self._lock:
            self._taken -= 1


def queue_full() -> RejectedError:
    """Return the refusal of a request that finds no place."""
    return RejectedError("queue_full", "every prediction slot and every place in line is taken")


def _give_way() -> None:
    if sys.platform == "linux":  # elsewhere it would hold for the whole process (setpriority(2), notes)
        os.setpriority(os.PRIO_PROCESS, 0, os.getpriority(os.PRIO_PROCESS, 0) + _NICENESS)
