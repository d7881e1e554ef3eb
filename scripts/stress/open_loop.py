"""Open-loop load: requests are sent at a fixed rate, independent of responses.

A closed loop (wrk, ab) slows down together with the server and so hides what an overload does; see Schroeder
et al. 2006, "Open versus closed: a cautionary tale".
"""

import contextlib
import random
import threading
import time
from collections import defaultdict
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import urllib3

from scripts.stress.client import BROKEN, Client

_THREADS = 2000
"""Requests in flight at most."""


class OpenLoop:
    """Sends requests from many threads, and records their latencies."""

    def __init__(self, client: Client) -> None:
        allow_many_connections()
        self._client = client
        self._lock = threading.Lock()
        self._latencies: dict[str, list[float]] = defaultdict(list)
        threads = ThreadPoolExecutor(_THREADS)
        self.start, self.finish = threads.submit, threads.shutdown
        """Run a function in another thread; wait until all of these have returned."""

    def send(self, method: str, path: str, *content: Any, name: str = "") -> urllib3.BaseHTTPResponse | None:
        """Send a request and return the response; None: the connection broke.

        A successful response counts under `name`, if there is one, instead of its status. `content` is the
        body and its type.
        """
        started, response, status = time.perf_counter(), None, "error"
        with contextlib.suppress(*BROKEN):
            response = self._client.send(method, path, *content)
            status = name if name and response.status < 300 else str(response.status)
        with self._lock:
            self._latencies[status].append(time.perf_counter() - started)
        return response

    def latencies(self) -> dict[str, list[float]]:
        """Return the latencies so far, in seconds, by status in order; "error": the connection broke."""
        with self._lock:
            return {status: list(values) for status, values in sorted(self._latencies.items())}


def arrivals(rate: float, seconds: float, chance: random.Random) -> Iterator[float]:
    """Wait for random moments, `rate` per second on average, and yield each, in seconds since the start."""
    start, due = time.perf_counter(), 0.0
    while due < seconds:
        time.sleep(max(0.0, start + due - time.perf_counter()))
        yield due
        due += chance.expovariate(rate)


def allow_many_connections() -> None:
    """Raise this process's limit of open files: a slow server leaves hundreds of connections open."""
    # Windows has no such limit; macOS may say that there is none, and then refuses it.
    with contextlib.suppress(ImportError, OSError, ValueError):
        import resource

        _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
        resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard_limit, 65_536), hard_limit))


def print_latencies(latencies: dict[str, list[float]], seconds: float) -> None:
    """Print a table with one row per status."""
    print(f"{'answer':9} {'count':>7} {'per second':>10} {'median':>8} {'p99':>8} {'max':>8}  (ms)")
    for status, values in latencies.items():
        row = " ".join(f"{1000 * value:8.1f}" for value in np.percentile(values, (50, 99, 100)))
        print(f"{status:9} {len(values):7} {len(values) / seconds:10.1f} {row}")
