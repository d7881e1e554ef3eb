#!/usr/bin/env python3
"""Send photos at a rate that doesn't wait for answers, as a crowd does, and report how each kind is answered.

usage: load_test.py URL PHOTO_OR_FOLDER... [--rate 100] [--seconds 10]

Prints one line a status with the number of answers and the latency in ms, and one for /health, asked ten
times a second beside them. Standard library only.
"""

import argparse
import asyncio
import random
import sys
from pathlib import Path

from stress import open_loop, wire


async def crowd(load: open_loop.Load, photos: list[bytes], rate: float, seconds: float) -> None:
    """Send photos at random moments, `rate` a second in the mean, and ask for /health beside them."""
    chance = random.Random(1)  # noqa: S311
    tasks: set[asyncio.Task[wire.Answer | None]] = set()
    health_due = 0.0
    async for due in open_loop.arrivals(rate, seconds, chance):
        tasks.add(asyncio.create_task(load.send("POST", "/predict", chance.choice(photos))))
        if due >= health_due:
            tasks.add(asyncio.create_task(load.send("GET", "/health", name="/health")))
            health_due += 0.1
    await asyncio.gather(*tasks)


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
    try:
        client = wire.Client.of(options.url, options.api_key)
    except ValueError as error:
        parser.error(str(error))
    told = open_loop.Load(client)
    asyncio.run(crowd(told, [file.read_bytes() for file in files], options.rate, options.seconds))
    open_loop.report(told.latencies, options.seconds)
    return int(any(name == "error" or (name[0] == "5" and name != "503") for name in told.latencies))


if __name__ == "__main__":
    sys.exit(main())
