"""Requests at moments that don't wait for answers, as a crowd sends them, and the account of what came back.

A closed loop (wrk, ab) slows down with the server and so hides what an overload does; see Schroeder et al.
2006, "Open versus closed: a cautionary tale".
"""

import asyncio
import random
import resource
import statistics
import time
from collections import defaultdict
from collections.abc import AsyncIterator

from stress import wire

TIMEOUT_S = 60


class Load:
    """Answers by status, with their latencies in seconds; "error" is a connection that broke."""

    def __init__(self, client: wire.Client) -> None:
        self._client = client
        self.latencies: dict[str, list[float]] = defaultdict(list)

    async def send(
        self, method: str, path: str, body: bytes = b"", kind: str = "image/jpeg", name: str | None = None
    ) -> wire.Answer | None:
        """Send one request and note how it went: under its status or, where it went well, its name if any.

        Returns:
            Its answer; None where the connection broke.
        """
        started = time.perf_counter()
        answer = None
        try:
            answer = await asyncio.wait_for(self._client.exchange(method, path, body, kind), TIMEOUT_S)
            status = name if name and answer.status < 300 else str(answer.status)
        except wire.BROKEN:
            status = "error"
        self.latencies[status].append(time.perf_counter() - started)
        return answer


async def arrivals(rate: float, seconds: float, chance: random.Random) -> AsyncIterator[float]:
    """Wait for random moments, `rate` a second in the mean, and yield each, in seconds from the start."""
    start, due = time.perf_counter(), 0.0
    while due < seconds:
        await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
        yield due
        due += chance.expovariate(rate)


def allow_many_connections() -> None:
    """Let this process open as many files as it may: a server that is late holds hundreds of connections."""
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))


def report(latencies: dict[str, list[float]], seconds: float) -> None:
    """Print the table."""
    print(f"{'answer':9} {'count':>7} {'a second':>9} {'median':>8} {'p99':>8} {'max':>8}  (ms)")
    for name, values in sorted(latencies.items()):
        p99 = statistics.quantiles(values, n=100, method="inclusive")[98] if len(values) > 1 else values[0]
        figures = [1000 * value for value in (statistics.median(values), p99, max(values))]
        print(
            f"{name:9} {len(values):7} {len(values) / seconds:9.1f} " + " ".join(f"{f:8.1f}" for f in figures)
        )
