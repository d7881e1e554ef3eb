#!/usr/bin/env python3
"""Send traffic to the service as users do, or as they shouldn't: for demonstrations, and to see alerts fire.

usage: traffic.py URL PHOTOS... [--mode normal] [--rate 20] [--seconds 60] [--feedback 0.2]

PHOTOS are files or folders; with a subfolder a class, `--feedback` sends the true label of a share of the
answers to /feedback. It doesn't wait for answers before it sends more. The modes:

    normal    photos as they are
    dark      at a quarter of their brightness
    blurred   out of focus
    other     the photos of --other
    bad       broken and truncated photos, text, bodies over MAX_UPLOAD_MB, paths that aren't there
    burst     every two seconds as many at once as --rate makes in that time

Prints a line a second, then answers by status with their latency, and labels. API_KEY in the environment is
sent as X-API-Key. Exit code 1 where nothing was answered. Needs what the service needs.
"""

import argparse
import asyncio
import contextlib
import json
import math
import os
import random
import sys
import time
from collections import Counter
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from common.photos import Photo, blurred, dark, find
from PIL import Image
from stress import mutations, open_loop, seeds, wire

MODES = ("normal", "dark", "blurred", "other", "bad", "burst")
_RATE, _BURST_RATE = 20.0, 200.0
_BURST_EVERY_S = 2.0
_PHOTOS = 300
"""So many are held in memory, drawn at random where there are more."""
_CHANGES: dict[str, Callable[[bytes], bytes]] = {"dark": dark, "blurred": blurred}
_BAD = {"broken": 6, "truncated": 4, "text": 4, "wrong path": 4, "wrong feedback": 2, "oversized": 1}
"""What is wrong, and how often beside the others."""

Request = tuple[str, str, bytes, str]
"""Method, path, body and content type."""


class Traffic:
    """Sends requests and keeps account of the answers.

    Args:
        client: to whom.
        photos: encoded photos with their true labels, None where it isn't known.
        options: of the command line.
    """

    def __init__(
        self, client: wire.Client, photos: list[tuple[bytes, str | None]], options: argparse.Namespace
    ) -> None:
        self._photos, self._options = photos, options
        self._chance = random.Random(options.seed)  # noqa: S311
        self._files = seeds.seeds()
        self.load = open_loop.Load(client)
        self.labels: Counter[str] = Counter()
        self.sent, self.seconds = 0, 1.0

    async def run(self) -> None:
        """Send until the time is over, and wait for the last answers."""
        started = time.monotonic()
        teller = asyncio.create_task(self._tell(started))
        tasks: set[asyncio.Task[None]] = set()
        try:
            async for count in self._moments():
                for _ in range(count):
                    task = asyncio.create_task(self._bad() if self._options.mode == "bad" else self._photo())
                    tasks.add(task)
                    task.add_done_callback(tasks.discard)
                    self.sent += 1
            await asyncio.gather(*tasks)
        finally:
            self.seconds = time.monotonic() - started
            teller.cancel()

    async def _moments(self) -> AsyncIterator[int]:
        """Yield how many to send when it is time."""
        options = self._options
        if options.mode != "burst":
            async for _ in open_loop.arrivals(options.rate, options.seconds, self._chance):
                yield 1
            return
        until = time.monotonic() + options.seconds
        while time.monotonic() < until:
            yield round(options.rate * _BURST_EVERY_S)
            await asyncio.sleep(_BURST_EVERY_S)

    async def _tell(self, started: float) -> None:
        while True:
            await asyncio.sleep(1)
            answers = ", ".join(f"{name}: {len(told)}" for name, told in sorted(self.load.latencies.items()))
            print(f"{time.monotonic() - started:6.0f} s  {self.sent} sent; {answers}", flush=True)

    async def _photo(self) -> None:
        photo, actual = self._chance.choice(self._photos)
        judges = self._chance.random() < self._options.feedback
        answer = await self.load.send("POST", "/predict", photo)
        if answer is None or answer.status != 200:
            return
        try:
            told = json.loads(answer.body)
            predicted, classes, request_id = str(told["label"]), told["probabilities"], told["request_id"]
        except (ValueError, KeyError, TypeError):
            self.labels["(no prediction)"] += 1
            return
        self.labels[predicted] += 1
        if judges and actual in classes:  # it may be a class that this model doesn't have
            word = {"predicted": predicted, "actual": actual, "request_id": request_id}
            body = json.dumps(word).encode()
            await self.load.send("POST", "/feedback", body, "application/json", name="/feedback")

    async def _bad(self) -> None:
        await self.load.send(*bad(self._chance, self._chance.choice(self._photos)[0], self._files))


def bad(chance: random.Random, photo: bytes, files: seeds.Seeds) -> Request:
    """Return a request that the service should refuse; a broken photo may be readable for all that."""
    match chance.choices(list(_BAD), list(_BAD.values()))[0]:
        case "broken":
            broken = mutations.mutated(chance.randrange(1 << 30), chance.randrange(1 << 30), files)[1]
            return "POST", "/predict", broken or b"-", "image/jpeg"
        case "truncated":
            return "POST", "/predict", photo[: len(photo) // chance.randint(2, 9)], "image/jpeg"
        case "text":
            return "POST", "/predict", b"this is no photo", chance.choice(("text/plain", "image/png"))
        case "wrong path":
            wrong = (("GET", "/predict"), ("GET", "/wp-login.php"), ("GET", "/.env"), ("POST", "/predicts"))
            return *chance.choice(wrong), b"", "text/plain"
        case "wrong feedback":
            return "POST", "/feedback", b'{"predicted": "", "actual": 1}', "application/json"
        case _:
            return "POST", "/predict", bytes(wire.OVER_LIMIT), "image/jpeg"


def read(found: list[Photo], mode: str, seed: int) -> list[tuple[bytes, str | None]]:
    """Return photos as the mode wants them, with their true labels; say which can't be read."""
    chosen = random.Random(seed).sample(found, min(len(found), _PHOTOS))  # noqa: S311
    change = _CHANGES.get(mode)
    photos = []
    for photo in chosen:
        try:
            body = photo.path.read_bytes()
            photos.append((change(body) if change else body, photo.label))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            print(f"left out: {photo.path}: {error}", file=sys.stderr)
    return photos


def report(traffic: Traffic) -> None:
    """Print the closing tables."""
    print(f"\n{traffic.sent} requests sent in {traffic.seconds:.1f} s")
    open_loop.report(traffic.load.latencies, traffic.seconds)
    total = traffic.labels.total()
    for label, count in traffic.labels.most_common():
        print(
            f"label {label if label.isprintable() else ascii(label)}: {count} ({100 * count / total:.1f} %)"
        )


def _parsed(arguments: list[str] | None = None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("url")
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--mode", choices=MODES, default="normal")
    parser.add_argument(
        "--rate", type=float, help=f"a second (default: {_RATE:.0f}; burst: {_BURST_RATE:.0f})"
    )
    parser.add_argument("--seconds", type=float, default=60.0, help="inf: until Ctrl-C (default: 60)")
    parser.add_argument("--other", type=Path, help="file or folder of photos for --mode other")
    parser.add_argument(
        "--feedback", type=float, default=0.0, help="share of the answers, 0 to 1 (default: 0)"
    )
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    if options.rate is None:
        options.rate = _BURST_RATE if options.mode == "burst" else _RATE
    if not (0 < options.rate < math.inf and options.seconds > 0 and 0 <= options.feedback <= 1):
        parser.error("--rate and --seconds must be positive, --feedback from 0 to 1")
    if (options.mode == "other") != (options.other is not None):
        parser.error("--mode other and --other belong together")
    try:
        found = find([options.other] if options.other else options.photos)
        options.photos = read(found, options.mode, options.seed)
        options.client = wire.Client.of(options.url, os.environ.get("API_KEY"))
    except (OSError, ValueError) as error:
        parser.error(str(error))
    if not options.photos:
        parser.error("no photos")
    if options.feedback and not any(label for _, label in options.photos):
        parser.error("--feedback needs a folder with a subfolder a class")
    return options


def main() -> int:
    """Run as the command line says."""
    options = _parsed()
    open_loop.allow_many_connections()
    traffic = Traffic(options.client, options.photos, options)
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(traffic.run())
    report(traffic)
    if not any(name != "error" for name in traffic.load.latencies):
        print("error: nothing was answered", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
