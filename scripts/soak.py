#!/usr/bin/env python3
"""Put the service under mixed load for minutes and see that it neither fails nor holds more and more.

usage: soak.py [--seconds 600] [--url URL [--pid PID]]

Without --url it starts a service for the purpose. Good photos, broken ones, slow senders, large bodies,
clients that hang up, bursts over capacity and probes come at once. Prints what the process holds as time goes
by, and what was answered. Exit code 1 where an answer isn't the one that is due, where a connection breaks
that a client kept, or where memory, file descriptors or threads grow after the warm-up, the first fifth of
the time.
"""

import argparse
import asyncio
import contextlib
import io
import random
import socket
import struct
import sys
import time
from collections import Counter
from collections.abc import Awaitable, Callable

from common import process
from PIL import Image
from stress import holding, mutations, seeds, wire

_TIMEOUT_S = 60
_BURST = 120


class Soak:
    """Clients that run side by side until the time is over, and the account of what came back.

    Args:
        client: the connections of those that behave.
        seconds: how long they go on.
    """

    def __init__(self, client: wire.Client, seconds: float) -> None:
        self._client = client
        self._until = time.monotonic() + seconds
        self._chance = random.Random(1)  # noqa: S311
        self._files = seeds.seeds()
        self._photo, self._large = _jpeg(500, 375), _jpeg(4000, 3000)
        self.answers: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    async def run(self) -> None:
        """Run all clients."""
        clients = [self.good, self.good, self.form, self.broken, self.large, self.over_limit, self.announced]
        clients += [self.slow] * 4 + [self.hang_up_in_body] * 2 + [self.hang_up_in_line] * 2 + [self.idle]
        clients += [self.burst, self.probes, self.feedback]
        await asyncio.gather(*(self._repeat(client) for client in clients))
        self._client.close()

    async def _repeat(self, client: Callable[[], Awaitable[None]]) -> None:
        while time.monotonic() < self._until:
            try:
                await asyncio.wait_for(client(), _TIMEOUT_S)
            except wire.BROKEN as error:
                self.failures[f"{client.__name__}: {type(error).__name__} {error}"] += 1
                await asyncio.sleep(0.5)

    async def _ask(
        self,
        due: tuple[int, ...],
        method: str,
        path: str,
        body: bytes = b"",
        kind: str = "image/jpeg",
        pause: float = 0.1,
    ) -> None:
        self._note(await self._client.exchange(method, path, body, kind), due, path)
        await asyncio.sleep(pause)

    def _note(self, answer: wire.Answer, due: tuple[int, ...], path: str) -> None:
        self.answers[f"{path} {answer.status}"] += 1
        retry = answer.headers.get("retry-after")
        if answer.status not in due or (answer.status == 503 and not retry):
            self.failures[f"{path}: status {answer.status}, Retry-After {retry}, where {due} are due"] += 1

    async def good(self) -> None:
        """Send a photo as the body."""
        await self._ask((200, 503), "POST", "/predict", self._photo)

    async def form(self) -> None:
        """Send several photos of all formats in one form."""
        photos = self._chance.choices(list(self._files.values()), k=self._chance.randint(1, 6))
        await self._ask((200, 503), "POST", "/predict", *wire.form(photos))

    async def broken(self) -> None:
        """Send a photo with something wrong; some can be read for all that."""
        photo = mutations.mutated(1, self._chance.randrange(1_000_000), self._files)[1]
        await self._ask((200, 400, 413, 415, 422, 503), "POST", "/predict", photo or b"-")

    async def large(self) -> None:
        """Send a photo of 12 megapixels."""
        await self._ask((200, 503), "POST", "/predict", self._large, pause=0.5)

    async def over_limit(self) -> None:
        """Send a body over MAX_UPLOAD_MB, to its end."""
        await self._ask((413, 503), "POST", "/predict", bytes(wire.OVER_LIMIT), pause=1)

    async def announced(self) -> None:
        """Announce a body so large that the service doesn't read it."""
        await self._by_itself((413, 503), self._client.head("POST", "/predict", "image/jpeg", 1 << 40))
        await asyncio.sleep(1)

    async def slow(self) -> None:
        """Send a photo in small pieces, over seconds."""
        head = self._client.head("POST", "/predict", "image/jpeg", len(self._photo))
        size = len(self._photo) // self._chance.randint(5, 30)
        pieces = [self._photo[at : at + size] for at in range(0, len(self._photo), size)]
        await self._by_itself((200, 503), head[:20], head[20:], *pieces)

    async def _by_itself(self, due: tuple[int, ...], *pieces: bytes) -> None:
        reader, writer = await self._client.connect()
        try:
            for piece in pieces:
                writer.write(piece)
                await writer.drain()
                await asyncio.sleep(0.1)
            self._note(await wire.read_answer(reader), due, "/predict")
        finally:
            writer.close()

    async def hang_up_in_body(self) -> None:
        """Hang up in the middle of a photo."""
        head = self._client.head("POST", "/predict", "image/jpeg", len(self._large))
        await self._and_gone(head + self._large[: self._chance.randrange(len(self._large))])
        await asyncio.sleep(0.3)

    async def hang_up_in_line(self) -> None:
        """Hang up before the answer."""
        head = self._client.head("POST", "/predict", "image/jpeg", len(self._photo))
        await self._and_gone(head + self._photo)
        await asyncio.sleep(0.3)

    async def _and_gone(self, data: bytes) -> None:
        _, writer = await self._client.connect()
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(self._chance.choice((0, 0.01, 0.1)))
        self.answers["hung up"] += 1
        if self._chance.random() < 0.5:
            # Closes by a reset rather than in order (SO_LINGER of 0 s, socket(7)).
            linger = struct.pack("ii", 1, 0)
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
            writer.transport.abort()
        else:
            writer.close()

    async def idle(self) -> None:
        """Connect and say nothing."""
        _, writer = await self._client.connect()
        await asyncio.sleep(2)
        writer.close()

    async def burst(self) -> None:
        """Send more at once than there are slots and places in line, as a crowd of new clients."""
        await asyncio.sleep(5)
        crowd = self._client.like()
        try:
            requests = (crowd.exchange("POST", "/predict", self._photo) for _ in range(_BURST))
            for answer in await asyncio.gather(*requests):
                self._note(answer, (200, 503), "/predict")
        finally:
            crowd.close()

    async def probes(self) -> None:
        """Ask what operators ask, and for what isn't there."""
        for path in ("/health", "/ready", "/metrics", "/model", "/", "/nothing"):
            await self._ask((404 if path == "/nothing" else 200,), "GET", path)

    async def feedback(self) -> None:
        """Send a word on an answer, and one that is none."""
        await self._ask((400,), "POST", "/feedback", b'{"predicted": 1}', "application/json")
        await self._ask((204, 400), "POST", "/feedback", _FEEDBACK, "application/json", pause=1)


_FEEDBACK = b'{"predicted": "cat", "actual": "dog"}'
"""Of the default model; another may not have these classes."""


def _jpeg(width: int, height: int) -> bytes:
    buffer = io.BytesIO()
    noise = Image.effect_noise((width // 8, height // 8), 90).resize((width, height))
    Image.merge("RGB", (noise, noise.rotate(180), noise)).save(buffer, "JPEG", quality=90)
    return buffer.getvalue()


async def soak(client: wire.Client, pid: int | None, options: argparse.Namespace) -> list[str]:
    """Run it; return what was wrong."""
    run = Soak(client, options.seconds)
    held: list[holding.Holding] = []
    before = holding.of(pid) if pid else None
    watcher = asyncio.create_task(holding.watch(pid, options.seconds, held)) if pid else None
    await run.run()
    reasons = [f"{count} x {failure}" for failure, count in run.failures.items()]
    if pid and watcher and before:
        watcher.cancel()
        try:
            with contextlib.suppress(asyncio.CancelledError):
                await watcher
            reasons += holding.grown(held, before, await holding.settled(pid, before), options.growth)
        except process.ProcessError as error:
            reasons.append(str(error))
    for name, count in sorted(run.answers.items()):
        print(f"{count:8} {name}")
    return reasons


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--seconds", type=float, default=600.0)
    parser.add_argument("--url", help="of a running service; default: start one")
    parser.add_argument("--pid", type=int, help="its process, to watch what it holds")
    parser.add_argument(
        "--growth", type=float, default=5.0, help="percent of memory that are borne (default: 5)"
    )
    parser.add_argument("--api-key")
    options = parser.parse_args()
    try:
        with contextlib.ExitStack() as stack:
            url, pid = (options.url, options.pid) if options.url else stack.enter_context(process.service())
            try:
                client = wire.Client.of(url, options.api_key)
            except ValueError as error:
                parser.error(str(error))
            reasons = asyncio.run(soak(client, pid, options))
    except process.ProcessError as error:
        reasons = [str(error)]
    for reason in reasons:
        print(f"failed: {reason}")
    return int(bool(reasons))


if __name__ == "__main__":
    sys.exit(main())
