"""How much is kept in a day, by everybody and by one client."""

import threading
import time
from collections import Counter
from collections.abc import Hashable

PHOTOS, BYTES, CLIENT = "photos_per_day", "mb_per_day", "photos_per_client"
"""Why a photo is not kept, labels of a metric."""


class DailyLimits:
    """Counts what one process keeps in a day (UTC); safe in all threads.

    If there is a random share, half of a day's photos and bytes are only for it, and a client's random photos
    have a limit of their own. Otherwise the other photos could use up the day's limit early, and the random
    sample would cover neither the rest of the day nor clients whose photos are hard.

    Args:
        photos: kept photos of a day.
        size: their bytes.
        per_client: photos of one client; as many again may belong to the random share.
        random_share: whether there is one.
    """

    def __init__(self, photos: int, size: int, per_client: int, random_share: bool) -> None:
        self._photos, self._size, self._per_client = photos, size, per_client
        self._others = 1 / 2 if random_share else 1
        self._lock = threading.Lock()
        self._day = -1
        self._start()

    def _start(self) -> None:
        self._kept_photos, self._kept_bytes = 0, 0
        # By client, and whether they belong to the random share; not more entries than kept photos.
        self._clients: Counter[tuple[Hashable, bool]] = Counter()

    def refusal(self, client: Hashable, drawn: bool, size: int = 0) -> str | None:
        """Return why a photo must not be kept, None if it may.

        Args:
            client: who sent it.
            drawn: whether it belongs to the random share.
            size: of the copy, in bytes, if it is known.
        """
        with self._lock:
            self._begin_day()
            share = 1 if drawn else self._others
            if self._kept_photos >= self._photos * share:
                return PHOTOS
            if self._kept_bytes + size > self._size * share:
                return BYTES
            return CLIENT if self._clients[client, drawn] >= self._per_client else None

    def count(self, client: Hashable, drawn: bool, size: int) -> None:
        """Count a photo that was kept; see `refusal`."""
        with self._lock:
            self._begin_day()
            self._kept_photos += 1
            self._kept_bytes += size
            self._clients[client, drawn] += 1

    def tidy(self) -> None:
        """Forget the clients of a day that has ended."""
        with self._lock:
            self._begin_day()

    def _begin_day(self) -> None:
        if (day := int(time.time() // 86_400)) != self._day:
            self._day = day
            self._start()
