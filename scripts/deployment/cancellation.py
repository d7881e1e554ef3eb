"""SIGTERM and SIGINT, as a workflow that is cancelled sends them: heeded between two steps, not inside one.

An exception from a signal's handler may strike anywhere: in a request whose answer is then lost, or where
nothing passes it on. So the handler only leaves word, and what waits looks for it.
"""

import os
import select
import signal
import time
from types import FrameType

_SIGNALS = (signal.SIGTERM, signal.SIGINT)


class Cancelled(BaseException):
    """What is going on is to be undone."""


class Cancellation:
    """Listens for both signals from `with` until `ignore`; there is one, `CANCELLATION`."""

    def __init__(self) -> None:
        self._came = self._listens = False
        self._reader, self._writer = os.pipe()
        os.set_blocking(self._writer, False)

    def __enter__(self) -> "Cancellation":
        self._listens = True
        self._former = {number: signal.signal(number, self._note) for number in _SIGNALS}
        return self

    def __exit__(self, *_: object) -> None:
        self._listens = False
        for number, handler in self._former.items():
            signal.signal(number, handler)

    def ignore(self) -> None:
        """Heed no signal any more: a rollback is not cut short."""
        self._listens = False

    def check(self) -> None:
        """Raise Cancelled where a signal has come."""
        if self._came and self._listens:
            raise Cancelled

    def pause(self, seconds: float) -> None:
        """Sleep; raise Cancelled at once where a signal comes."""
        if self._listens:
            self.wait_for([], seconds)
        else:
            time.sleep(seconds)

    def wait_for(self, files: list[int], seconds: float) -> bool:
        """Wait until one of these files can be read, or so long; return whether one can.

        Raises:
            Cancelled: a signal came.
        """
        heard = [self._reader] if self._listens else []
        ready, _, _ = select.select([*files, *heard], [], [], seconds)
        self.check()
        return any(file in ready for file in files)

    def _note(self, _number: int, _frame: FrameType | None) -> None:
        self._came = True
        try:
            os.write(self._writer, b"!")
        except BlockingIOError:  # full of earlier ones
            return


CANCELLATION = Cancellation()
