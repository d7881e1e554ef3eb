"""Decodes untrusted photos: cheap ones in the calling thread, all others in the sandbox."""

import threading

import numpy as np

from ml.model import decoder, heic
from ml.model.errors import BrokenImageError, TooCostlyError, UnsupportedImageError
from ml.model.formats import heif, inspect
from ml.model.formats.structure import Structure
from ml.model.image import DEFAULT_MAX_PIXELS, Decoded, Resize
from ml.model.sandbox.sandbox import AVAILABLE, OUT_OF_RESOURCES, NoWorkerError, Sandbox

_CHEAP_BYTES = 32 * 1024 * 1024
_CHEAP_PIXELS = 64_000_000
"""What a photo may take, by its structure, to be decoded in the thread that asks. Pixels count once for each
pass of the decoder; so many take less than a second."""
_COPY_BYTES = 64 * 1024 * 1024
"""Memory that copying one photo may take, beside that of photos which are decoded for an answer."""
_PROBE_SIZE = 32  # an error message is not longer than the square
_NO_SANDBOX = (
    "a HEIC image, which this system can't decode safely, because it has no fork(2); send a JPEG instead"
)


class CarefulDecoder:
    """Decodes photos within limits; several threads can use it in parallel.

    Args:
        max_bytes: memory that decoding one photo may take.
        at_once: number of photos that may take so much at the same time.
        max_pixels: a photo with more is rejected.
        cpu_s: CPU time that a photo may take in the sandbox, in whole seconds.
        seconds: how long it may take there.
        niceness: of the sandbox's processes, see nice(2).
    """

    def __init__(
        self,
        max_bytes: int,
        at_once: int,
        max_pixels: int = DEFAULT_MAX_PIXELS,
        *,
        cpu_s: int,
        seconds: float,
        niceness: int = 0,
    ) -> None:
        self._max_pixels, self._max_bytes, self._seconds = max_pixels, max_bytes, seconds
        self._sandbox = Sandbox(max_bytes, cpu_s, niceness)
        self._room = threading.BoundedSemaphore(at_once)

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
        try:  # this process doesn't import the decoder
            self._sandbox.decode(Structure(heif.HEIC, 1, 1, b"", 0), _PROBE_SIZE, "squash", self._seconds)
        except UnsupportedImageError as error:
            return str(error)
        except (BrokenImageError, TooCostlyError):  # expected: the probe contains no photo
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
        photo, memory = self._inspect(data, size, self._max_bytes)
        pixels = photo.width * photo.height * photo.passes
        cheap = photo.bounded and memory <= _CHEAP_BYTES and pixels <= _CHEAP_PIXELS
        if cheap or not AVAILABLE:
            try:
                square = decoder.square(photo, size, resize)
            except (OSError, MemoryError) as error:
                raise NoWorkerError(OUT_OF_RESOURCES) from error
            return Decoded.of(photo, np.asarray(square)), 0.0
        rgb, cpu_s = self.in_sandbox(photo, size, resize)
        return Decoded.of(photo, np.frombuffer(rgb, np.uint8).reshape(size, size, 3)), cpu_s

    def copy(self, data: bytes, side: int) -> tuple[Structure, float]:
        """Return a photo as an upright JPEG without metadata, with the lowest priority.

        Only one thread may do this at a time. It takes no room from the photos that `read` decodes.

        Args:
            data: the encoded photo.
            side: the longer side of the copy, in pixels, unless the photo is smaller.

        Returns:
            The JPEG's structure, whose `essential` is the file, and the CPU time that other processes spent
            on it, in seconds.

        Raises:
            What `read` raises.
        """
        photo, _ = self._inspect(data, side // 2, min(self._max_bytes, _COPY_BYTES))
        if AVAILABLE:
            content, cpu_s = self._sandbox.copy(photo, side, self._seconds, _COPY_BYTES)
        else:
            try:
                content, cpu_s = decoder.copy(photo, side), 0.0
            except (OSError, MemoryError) as error:
                raise NoWorkerError(OUT_OF_RESOURCES) from error
        # The process is not trusted, see `Sandbox`: what it returns must be a small JPEG and nothing else.
        copied = inspect(content, side * side, side)
        if copied.kind != "JPEG" or max(copied.width, copied.height) > side or not copied.bounded:
            raise TooCostlyError("the decoder returned something else than a small JPEG")
        return copied, cpu_s

    def _inspect(self, data: bytes, size: int, max_bytes: int) -> tuple[Structure, int]:
        """Return a photo's structure and the memory that decoding it takes, at most `max_bytes`."""
        photo = inspect(data, self._max_pixels, size)
        if photo.kind == heif.HEIC and not AVAILABLE:
            raise UnsupportedImageError(_NO_SANDBOX)
        memory = photo.memory(size)
        if memory > max_bytes:
            raise TooCostlyError(
                f"decoding it takes {memory >> 20:,} MB of memory; the limit is {max_bytes >> 20:,} MB"
            )
        return photo, memory

    def in_sandbox(self, photo: Structure, size: int, resize: Resize) -> tuple[bytes, float]:
        """Decode a photo in the sandbox when there is room for it; see `Sandbox.decode`."""
        with self._room:
            return self._sandbox.decode(photo, size, resize, self._seconds)
