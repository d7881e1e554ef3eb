"""Ends runs of the network that take too long, such as those of a model with an endless loop."""

import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from onnxruntime import RunOptions

_POLL_S = 0.25


class Watchdog:
    """One thread for the runs of all models. Watching a run adds about a microsecond to it.

    ONNX Runtime looks at the options' `terminate` before each node and each turn of a loop; a single node
    that takes long ends only by itself.
    """

    def __init__(self) -> None:
        self._runs: dict[RunOptions, float] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None

    def start(self) -> None:
        """Start the thread, unless it runs already."""
        with self._lock:
            if self._thread is None:
                self._thread = threading.Thread(target=self._poll, name="watchdog", daemon=True)
                self._thread.start()

    def watch(self, run: "RunOptions", limit_s: float) -> None:
        """End the run with these options after a number of seconds, unless `forget` is called before."""
        with self._lock:
            self._runs[run] = time.monotonic() + limit_s

    def forget(self, run: "RunOptions") -> None:
        """Stop watching a run, which has ended."""
        with self._lock:
            del self._runs[run]

    def _poll(self) -> None:
        while True:
            time.sleep(_POLL_S)  # not an event: to wake this thread would cost each run more than it is worth
            now = time.monotonic()
            with self._lock:
                for run, deadline in self._runs.items():
                    if now > deadline:
                        run.terminate = True


WATCHDOG = Watchdog()
