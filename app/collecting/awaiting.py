"""Photos whose feedback may still come."""

import threading
import time
from collections import OrderedDict
from collections.abc import Hashable
from dataclasses import dataclass, field

from ml.model.kept_photos import Record

MAX_AGE_S = 600
"""How long a photo waits for feedback and to be written; most users judge an answer at once."""
_MAX_PHOTOS = 2000
_CLASS_BYTES = 64
"""What the probability of one class takes: a number, and its place in a dict."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """A photo that is to be kept, or may be.

    Attributes:
        photo: as it was sent; None: it was passed on to be written, and only its record may change.
        record: what is known of it.
        client: who sent it, for the limits only.
        until: when its time is over, on the clock of `time.monotonic`.
    """

    photo: bytes | None
    record: Record
    client: Hashable
    until: float = field(default_factory=lambda: time.monotonic() + MAX_AGE_S)

    @property
    def over(self) -> bool:
        """Whether its time is over, so that its photo must no longer wait in memory."""
        return self.until < time.monotonic()

    @property
    def size(self) -> int:
        """Number of bytes of the photo and, roughly, of its record in memory."""
        return len(self.photo or b"") + _CLASS_BYTES * len(self.record.answer.get("probabilities", ()))


class Awaiting:
    """The latest candidates, by their request id; safe in all threads.

    Args:
        max_bytes: bytes of all candidates; the oldest ones make room.
    """

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes = max_bytes
        self._lock = threading.Lock()
        self._candidates: OrderedDict[str, Candidate] = OrderedDict()
        self._bytes = 0

    def add(self, candidate: Candidate) -> None:
        """Hold a candidate."""
        self.tidy()
        if candidate.size > self._max_bytes:
            return
        with self._lock:
            self._candidates[candidate.record.request_id] = candidate
            self._bytes += candidate.size
            while self._bytes > self._max_bytes or len(self._candidates) > _MAX_PHOTOS:
                self._forget_oldest()

    def pop(self, request_id: str) -> Candidate | None:
        """Return the candidate with a request id, and hold it no longer; None: there is none."""
        self.tidy()
        with self._lock:
            candidate = self._candidates.pop(request_id, None)
            self._bytes -= candidate.size if candidate else 0
            return candidate

    def tidy(self) -> None:
        """Forget candidates whose time is over."""
        with self._lock:
            while self._candidates and next(iter(self._candidates.values())).over:
                self._forget_oldest()

    def _forget_oldest(self) -> None:
        _, candidate = self._candidates.popitem(last=False)
        self._bytes -= candidate.size
