"""SIGTERM and SIGINT, as a cancelled workflow sends them: obeyed between two steps, never inside one.

An exception raised by a signal handler may strike anywhere, for example in a request whose answer is then
lost. So the handler only sets a flag, and code that waits looks at the flag.
"""

import signal
import time
from types import FrameType

_LOOK_S = 0.1


class Cancelled(BaseException):
    """A signal has come: undo what was begun."""


class Cancellation:
    """Listens for both signals inside `with`, until `ignore` is called. There is one: `CANCELLATION`."""

    came = False
    """Whether a signal came inside `with`."""
    _listens = False

    def __enter__(self) -> None:
        self._listens = True
        signals = (signal.SIGTERM, signal.SIGINT)
        self._former = {number: signal.signal(number, self._note) for number in signals}

    def __exit__(self, *_: object) -> None:
        self._listens = False
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def ignore(self) -> None:
        """Obey no signal any more, so that none interrupts a rollback."""
        self._listens = False

    def check(self) -> None:
        """Raise Cancelled if a signal has come."""
        if self.came and self._listens:
            raise Cancelled

    def pause(self, seconds: float) -> None:
        """Sleep for a number of seconds; raise Cancelled as soon as a signal comes."""
        until = time.monotonic() + seconds
        self.check()
        while (left := until - time.monotonic()) > 0:
            time.sleep(min(left, _LOOK_S))
            self.check()

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self.came = True


CANCELLATION = Cancellation()
