"""Decodes the photos of requests within the limits of the settings."""

from app.settings import Settings
from app.telemetry.metrics import Metrics
from ml.model.careful import CarefulDecoder
from ml.model.errors import TooCostlyError
from ml.model.formats.structure import Structure
from ml.model.image import Resize

_CPU_S = 2
"""CPU time that a photo may take in the sandbox. A JPEG of 50 megapixels takes less than one second."""
_DEADLINE_S = 30.0
"""How long it may take: a container with a tenth of a CPU takes 20 s for the CPU time above."""
_NICENESS = 10  # as the workers of `app.http.admission`


class Decoder(CarefulDecoder):
    """Decodes photos, and counts those that take too much; several threads can use it in parallel."""

    def __init__(self, settings: Settings, metrics: Metrics) -> None:
        super().__init__(
            settings.max_photo_bytes,
            settings.costly_photos,
            settings.max_pixels,
            cpu_s=_CPU_S,
            seconds=_DEADLINE_S,
            niceness=_NICENESS,
        )
        self._metrics = metrics

    def in_sandbox(self, photo: Structure, size: int, resize: Resize) -> tuple[bytes, float]:
        """Decode a photo in the sandbox when there is room for it; see `Sandbox.decode`."""
        try:
            return super().in_sandbox(photo, size, resize)
        except TooCostlyError:
            self._metrics.stopped_decoders.inc()
            raise
