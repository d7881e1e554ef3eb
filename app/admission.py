"""Who may predict: so many at once, so many in line behind them, the rest are told to come back."""

import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

LATE = "app.late"
"""Key in the WSGI environment of a request that began after the drain did."""


class RejectedError(Exception):
    """A prediction that isn't made now.

    Attributes:
        reason: `queue_full`, `timeout`, `disconnected` or `draining`, the label of its metric.
    """

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason = reason


class Admission:
    """Slots in which predictions run, and a line of bounded length and patience that is served in order.

    A slot is freed only when the work in it has ended, so that a timeout never adds work to an overload.

    Args:
        slots: how many predictions run at once.
        queue: how many wait for a slot.
        timeout_s: how long each of them waits, in seconds.
    """

    def __init__(self, slots: int, queue: int, timeout_s: float) -> None:
        self._free, self._queue, self._timeout_s = slots, queue, timeout_s
        self._line: deque[threading.Lock] = deque()
        self._lock = threading.Lock()
        self.draining = False
        """Set when the service is about to stop: what began before is served, what comes after is not."""

    @contextmanager
    def slot(self, gone: Callable[[], bool] = bool) -> Iterator[None]:
        """Hold a slot.

        Args:
            gone: whether the client has hung up; asked when its turn comes.

        Raises:
            RejectedError: the line is full, the wait too long, or nobody waits for the answer.
        """
        self._acquire()
        try:
            if gone():
                raise RejectedError("disconnected", "the client has gone")
            yield
        finally:
            self._release()

    def _acquire(self) -> None:
        with self._lock:
            if self._free:  # then nobody is in line, for a slot that is freed goes to the first of them
                self._free -= 1
                return
            if len(self._line) >= self._queue:
                raise RejectedError("queue_full", "every prediction slot and every place in line is taken")
            turn = threading.Lock()
            turn.acquire()
            self._line.append(turn)
        if turn.acquire(timeout=self._timeout_s):
            return
        with self._lock:
            if turn in self._line:
                self._line.remove(turn)
                raise RejectedError("timeout", f"no prediction slot was free within {self._timeout_s:g} s")
        # Its turn came in the moment between the two: the slot is held.

    def _release(self) -> None:
        with self._lock:
            if self._line:
                self._line.popleft().release()
            else:
                self._free += 1
