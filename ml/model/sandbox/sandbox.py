"""The service's side of the sandbox: sends photos to worker processes, and kills those that take too long."""

import contextlib
import math
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Iterator
from pathlib import Path

from ml.model.decoder import Resize
from ml.model.errors import BrokenImageError, TooCostlyError, UnsupportedImageError, one_line
from ml.model.formats.structure import Structure
from ml.model.sandbox import messages

AVAILABLE = hasattr(os, "fork") and hasattr(socket, "send_fds")

_ROOT = Path(__file__).resolve().parents[3]
_PASSED = ("PYTHON", "LD_", "DYLD_", "LC_", "LANG", "PATH")
"""Beginnings of the variables that the processes get: a decoder needs no secrets."""
_ERRORS = {messages.REFUSED: BrokenImageError, messages.UNSUPPORTED: UnsupportedImageError}
_MESSAGE_BYTES = 200
_LOWEST_PRIORITY = 19
_SPARE_BYTES = 16 * 1024 * 1024
"""Memory of a worker beside what decoding takes, for the interpreter and the answer."""

OUT_OF_RESOURCES = "the system is out of memory or file descriptors"
"""Message of a NoWorkerError."""


class NoWorkerError(RuntimeError):
    """No process could be started, or it lacked a resource; the photo may be good."""


class Sandbox:
    """Starts a process for each photo; several threads can use it in parallel.

    Args:
        memory: bytes that decoding may take beside the encoded photo.
        cpu_s: CPU time that it may take, in whole seconds.
        niceness: by how much the processes' priority is lower than this one's, see nice(2).
    """

    def __init__(self, memory: int, cpu_s: int, niceness: int = 0) -> None:
        self.memory, self.cpu_s, self._niceness = memory, cpu_s, niceness
        self._lock = threading.Lock()
        self._control: socket.socket | None = None

    def start(self) -> None:
        """Start the zygote, unless it runs already; otherwise the first photo does so.

        Raises:
            NoWorkerError: it can't be started.
        """
        with self._lock, _no_worker():
            self._start()

    def decode(self, photo: Structure, size: int, resize: Resize, seconds: float) -> tuple[bytes, float]:
        """Return the RGB pixels of the square that `ml.model.decoder.square` makes, and the CPU seconds.

        Args:
            photo: its structure.
            size: height and width of the result, in pixels.
            resize: see `ml.model.image.read`.
            seconds: how long it may take.

        Raises:
            BrokenImageError: the photo is truncated or corrupt.
            UnsupportedImageError: there is no decoder for it.
            TooCostlyError: it can't be decoded within the limits.
            NoWorkerError: there is no process to decode it in.
        """
        result = messages.CROPPED if resize == "center_crop" else messages.SQUASHED
        content, cpu_s = self._work(photo, size, result, seconds, self.memory, self._niceness)
        if len(content) != 3 * size * size:
            raise self._too_costly(self.memory, seconds)
        return content, cpu_s

    def copy(self, photo: Structure, side: int, seconds: float, memory: int) -> tuple[bytes, float]:
        """Return the JPEG that `ml.model.decoder.copy` makes, and the CPU seconds, with the lowest priority.

        Args:
            photo: its structure.
            side: the longer side of the copy, in pixels.
            seconds: how long it may take.
            memory: bytes that it may take beside the encoded photo.

        Raises:
            What `decode` raises.
        """
        return self._work(photo, side, messages.COPY, seconds, memory, _LOWEST_PRIORITY)

    def _work(
        self, photo: Structure, size: int, result: int, seconds: float, memory: int, niceness: int
    ) -> tuple[bytes, float]:
        """Return the content that a process answers, at most 3 * size * size bytes, and its CPU seconds."""
        deadline = time.monotonic() + seconds
        with _no_worker():
            ours, theirs = socket.socketpair()
        with ours:
            with theirs:
                spare = _SPARE_BYTES + len(photo.essential)
                limits = messages.LIMITS.pack(memory + spare, self.cpu_s, seconds, niceness)
                self._fork(theirs, limits)
            try:
                packed = messages.receive(ours, messages.PROCESS_ID.size, deadline)
            except (EOFError, OSError) as error:
                raise NoWorkerError("the process that decodes the photo did not start") from error
            (process,) = messages.PROCESS_ID.unpack(packed)
            try:
                outcome, cpu_s, content = _exchange(ours, photo, size, result, deadline)
            except TimeoutError:
                # Its end of the socket is open, so it runs, and no other process can have its number.
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
                raise self._too_costly(memory, seconds) from None
            except (EOFError, OSError):  # it was ended: by a limit, or by its own fault
                raise self._too_costly(memory, seconds) from None
        # A decoder that an attacker has taken over may answer anything.
        if outcome == messages.DONE:
            return content, min(max(cpu_s, 0.0), self.cpu_s) if math.isfinite(cpu_s) else self.cpu_s
        if outcome in _ERRORS:
            raise _ERRORS[outcome](one_line(content[:_MESSAGE_BYTES].decode(errors="replace")))
        if outcome == messages.NO_RESOURCES:
            raise NoWorkerError(OUT_OF_RESOURCES)
        raise self._too_costly(memory, seconds)

    def _fork(self, worker: socket.socket, limits: bytes) -> None:
        with self._lock, _no_worker():
            control = self._start()
            try:
                socket.send_fds(control, [limits], [worker.fileno()])
            except OSError:  # the zygote was killed: a new one
                self._end()
                self._control = None
                socket.send_fds(self._start(), [limits], [worker.fileno()])

    def _start(self) -> socket.socket:
        if self._control is None:
            ours, theirs = socket.socketpair()
            environ = {name: value for name, value in os.environ.items() if name.startswith(_PASSED)}
            environ["PYTHONPATH"] = os.pathsep.join(filter(None, (str(_ROOT), environ.get("PYTHONPATH"))))
            with theirs, contextlib.ExitStack() as on_failure:
                on_failure.enter_context(ours)
                zygote = subprocess.Popen(  # noqa: S603
                    [sys.executable, "-m", "ml.model.sandbox.zygote", str(theirs.fileno())],
                    pass_fds=[theirs.fileno()],
                    env=environ,
                    stdin=subprocess.DEVNULL,
                    start_new_session=True,  # Ctrl-C in a terminal isn't for it
                )
                on_failure.pop_all()
            self._control = ours
            self._end = weakref.finalize(self, _close, ours, zygote)  # with this process at the latest
        return self._control

    def _too_costly(self, memory: int, seconds: float) -> TooCostlyError:
        return TooCostlyError(
            f"decoding it takes more than {memory >> 20:,} MB of memory, {self.cpu_s} s of CPU time "
            f"or {seconds:g} s"
        )


def _exchange(
    worker: socket.socket, photo: Structure, size: int, result: int, deadline: float
) -> tuple[int, float, bytes]:
    """Send the photo; return the worker's outcome, its CPU seconds, and what follows."""
    head = messages.PHOTO.pack(
        photo.kind.encode(),
        photo.width,
        photo.height,
        photo.orientation,
        size,
        result,
        len(photo.essential),
    )
    worker.settimeout(max(0.001, deadline - time.monotonic()))
    worker.sendall(head)
    if photo.essential:  # otherwise, the worker may have answered and ended already
        worker.sendall(photo.essential)
    outcome, cpu_s, count = messages.ANSWER.unpack(messages.receive(worker, messages.ANSWER.size, deadline))
    if count > 3 * size * size:  # a message is shorter, and no decoder may make this process allocate more
        raise EOFError
    return outcome, cpu_s, messages.receive(worker, count, deadline)


def _close(control: socket.socket, zygote: "subprocess.Popen[bytes]") -> None:
    control.close()
    zygote.kill()
    zygote.wait()


@contextlib.contextmanager
def _no_worker() -> Iterator[None]:
    """Translate OSError, such as a lack of file descriptors or processes, into NoWorkerError."""
    try:
        yield
    except OSError as error:
        reason = error.strerror or "an unknown error"
        raise NoWorkerError(f"can't start a process that decodes the photo: {reason}") from error
