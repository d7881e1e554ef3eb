#!/usr/bin/env python3
"""Send photos at a rate that doesn't wait for answers, as a crowd does, and report how each kind is answered.

usage: load_test.py URL PHOTO_OR_FOLDER... [--rate 100] [--seconds 10]

Prints one line a status with the number of answers and the latency in ms, and one for /health, asked ten
times a second beside them. A closed loop (wrk, ab) slows down with the server and so hides what an overload
does; see Schroeder et al. 2006, "Open versus closed: a cautionary tale". Standard library only.
"""

import argparse
import asyncio
import random
import statistics
import sys
import time
from collections import defaultdict
from pathlib import Path
from urllib.parse import urlsplit

import wire


class Load:
    """Answers by status, with their latencies in seconds; "error" is a connection that broke."""

    def __init__(self, client: wire.Client) -> None:
        self._client = client
        self.latencies: dict[str, list[float]] = defaultdict(list)

    async def send(self, method: str, path: str, body: bytes, name: str | None = None) -> None:
        """Send one request and note how it went."""
        started = time.perf_counter()
        try:
            answer = await asyncio.wait_for(self._client.exchange(method, path, body), timeout=60)
            status = str(answer.status)
        except wire.BROKEN:
            status = "error"
        self.latencies[name or status].append(time.perf_counter() - started)


async def load(client: Load, photos: list[bytes], rate: float, seconds: float) -> None:
    """Send photos at random moments, `rate` a second in the mean, and ask for /health beside them."""
    chance = random.Random(1)  # noqa: S311
    tasks: set[asyncio.Task[None]] = set()
    start = time.perf_counter()
    due, health_due = 0.0, 0.0
    while due < seconds:
        await asyncio.sleep(max(0.0, start + due - time.perf_counter()))
        tasks.add(asyncio.create_task(client.send("POST", "/predict", chance.choice(photos))))
        if due >= health_due:
            tasks.add(asyncio.create_task(client.send("GET", "/health", b"", "/health")))
            health_due += 0.1
        due += chance.expovariate(rate)
    await asyncio.gather(*tasks)


def report(latencies: dict[str, list[float]], seconds: float) -> None:
    """Print the table."""
    print(f"{'answer':8} {'count':>7} {'a second':>9} {'median':>8} {'p99':>8} {'max':>8}  (ms)")
    for name, values in sorted(latencies.items()):
        p99 = statistics.quantiles(values, n=100, method="inclusive")[98] if len(values) > 1 else values[0]
        figures = [1000 * value for value in (statistics.median(values), p99, max(values))]
        print(
            f"{name:8} {len(values):7} {len(values) / seconds:9.1f} " + " ".join(f"{f:8.1f}" for f in figures)
        )


def main() -> int:
    """Run as the command line says; exit code 1 where a connection broke or a 5xx other than 503 came."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--rate", type=float, default=100.0, help="requests a second (default: 100)")
    parser.add_argument("--seconds", type=float, default=10.0)
    parser.add_argument("--api-key")
    options = parser.parse_args()
    files = [
        file for path in options.photos for file in (sorted(path.rglob("*.jpg")) if path.is_dir() else [path])
    ]
    if not files:
        parser.error("no photos")
    address = urlsplit(options.url)
    client = Load(wire.Client(address.hostname or "127.0.0.1", address.port or 80, options.api_key))
    asyncio.run(load(client, [file.read_bytes() for file in files], options.rate, options.seconds))
    report(client.latencies, options.seconds)
    return int(any(name == "error" or (name[0] == "5" and name != "503") for name in client.latencies))


if __name__ == "__main__":
    sys.exit(main())
