"""Decodes the photos of requests: cheap ones in the worker's own thread, all others in the sandbox."""

import threading

import numpy as np

from app.settings import Settings
from app.telemetry.metrics import Metrics
from ml.model import decoder, heic
from ml.model.errors import BrokenImageError, TooCostlyError, UnsupportedImageError
from ml.model.formats import heif, inspect
from ml.model.formats.structure import Structure
from ml.model.image import Decoded, Resize
from ml.model.sandbox.sandbox import AVAILABLE, NoWorkerError, Sandbox

_CHEAP_BYTES = 32 * 1024 * 1024
_CHEAP_PIXELS = 64_000_000
"""What a photo may take, by its structure, to be decoded in the thread that asks. Pixels count once for each
pass of the decoder; so many take less than a second."""
_CPU_S = 2
"""CPU time that any other photo may take; one of 50 megapixels takes less than one second."""
_DEADLINE_S = 30.0
"""How long it may take: a container with a tenth of a CPU takes 20 s for the CPU time above."""
_PROBE_SIZE = 32  # an error message is not longer than the square
_NO_SANDBOX = (
    "a HEIC image, which this system can't decode safely, because it has no fork(2); send a JPEG instead"
)
_NICENESS = 10  # as the workers of `app.http.admission`


class Decoder:
    """Decodes photos within the limits of the settings; several threads can use it in parallel."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        self._max_pixels, self._max_bytes = settings.max_pixels, settings.max_photo_bytes
        self._metrics = metrics
        self._sandbox = Sandbox(self._max_bytes, _CPU_S, _NICENESS)
        self._room = threading.BoundedSemaphore(settings.costly_photos)

    def start(self) -> None:
        """Start the sandbox, so that no photo has to wait for that.

        Raises:
            NoWorkerError: it can't be started.
        """
        if AVAILABLE:
            self._sandbox.start()

    def heic_problem(self) -> str | None:
        """Return why the installed decoder of HEIC isn't used; None if it is used, or none is installed.

        Raises:
            NoWorkerError: the sandbox can't be started.
        """
        if not heic.installed():
            return None
        if not AVAILABLE:
            return _NO_SANDBOX
        try:  # the service doesn't import the decoder
            self._sandbox.decode(Structure(heif.HEIC, 1, 1, b"", 0), _PROBE_SIZE, "squash", _DEADLINE_S)
        except UnsupportedImageError as error:
            return str(error)
        except (BrokenImageError, TooCostlyError):  # nothing is no photo, and the decoder says so
            pass
        return None

    def read(self, data: bytes, size: int, resize: Resize) -> tuple[Decoded, float]:
        """Decode a photo as `ml.model.image.read` does.

        Returns:
            The decoded photo, and the CPU time that other processes spent on it, in seconds.

        Raises:
            ImageError: the photo can't be used; it is not of an accepted format, corrupt, or takes too much.
            NoWorkerError: the system lacks a process, memory or open files; the photo may be good.
        """
        photo = inspect(data, self._max_pixels, size)
        if photo.kind == heif.HEIC and not AVAILABLE:
            raise UnsupportedImageError(_NO_SANDBOX)
        memory = photo.memory(size)
        if memory > self._max_bytes:
            raise TooCostlyError(
                f"decoding it takes {memory >> 20:,} MB of memory; the limit is {self._max_bytes >> 20:,} MB"
            )
        pixels = photo.width * photo.height * photo.passes
        cheap = photo.bounded and memory <= _CHEAP_BYTES and pixels <= _CHEAP_PIXELS
        if cheap or not AVAILABLE:
            try:
                square = decoder.square(photo, size, resize)
            except (OSError, MemoryError) as error:
                raise NoWorkerError("the system is out of memory or file descriptors") from error
            return Decoded.of(photo, np.asarray(square)), 0.0
        try:
            with self._room:
                rgb, cpu_s = self._sandbox.decode(photo, size, resize, _DEADLINE_S)
        except TooCostlyError:
            self._metrics.stopped_decoders.inc()
            raise
        return Decoded.of(photo, np.frombuffer(rgb, np.uint8).reshape(size, size, 3)), cpu_s
