"""A limit of events per client: token buckets in a table of bounded size."""

import time
from collections import OrderedDict
from collections.abc import Hashable

_CLIENTS = 4096
"""Clients that a limit remembers. Beyond that it forgets the one that was seen longest ago."""


class RateLimit:
    """Allows each client `burst` events at once, and `per_second` on average. Only one thread may use it."""

    def __init__(self, per_second: float, burst: int) -> None:
        self._per_second, self._burst = per_second, burst
        # The tokens of each client, and the time of its last event.
        self._buckets: OrderedDict[Hashable, tuple[float, float]] = OrderedDict()

    def seconds_to_wait(self, client: Hashable) -> float:
        """Count an event; return 0 if it is allowed, else the seconds until the next one is."""
        now = time.monotonic()
        tokens, then = self._buckets.pop(client, (float(self._burst), now))
        tokens = min(float(self._burst), tokens + (now - then) * self._per_second)
        allowed = tokens >= 1
        self._buckets[client] = (tokens - allowed, now)
        if len(self._buckets) > _CLIENTS:
            self._buckets.popitem(last=False)
        return 0.0 if allowed else (1 - tokens) / self._per_second
