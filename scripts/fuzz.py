#!/usr/bin/env python3
"""Send broken photos to the service and see that it says so, lives and holds no more memory than before.

usage: fuzz.py [--count 5000] [--seed 1] [--keep FOLDER] [--url URL [--pid PID]]

Without --url it starts a service for the purpose. Photos go as raw bodies, as forms, and several in one form.
Exit code 1 where an answer isn't 200, 400, 413, 415 or 422, or isn't of the documented form, where a
connection breaks, the process ends or its memory grows; what was sent is then kept in the folder.
"""

import argparse
import asyncio
import contextlib
import json
import random
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

from common import process
from stress import holding, mutations, seeds, wire

_STATUSES = frozenset({200, 400, 413, 415, 422})
_AT_ONCE = 4
_SAMPLE_EVERY = 20
"""Answers between two looks at the memory."""
_TIMEOUT_S = 60
_FAILURES = 20
"""After so many of them it ends."""


class Fuzzer:
    """Sends the photos and keeps account.

    Args:
        client: to whom.
        options: of the command line.
    """

    def __init__(self, client: wire.Client, options: argparse.Namespace) -> None:
        self._client, self._options = client, options
        self._files = seeds.seeds()
        self.statuses: Counter[int] = Counter()
        self.failures: list[str] = []
        self.memory: list[float] = []

    async def run(self, pid: int | None) -> None:
        """Send all of them, a few at once."""
        numbers = iter(range(self._options.count))
        senders = (self._sender(numbers, pid) for _ in range(_AT_ONCE))
        # All of them: several may find the service gone.
        ended = await asyncio.gather(*senders, return_exceptions=True)
        self._client.close()
        for error in filter(None, ended):
            raise error

    async def _sender(self, numbers: Iterator[int], pid: int | None) -> None:
        for number in numbers:
            if len(self.failures) >= _FAILURES:
                return
            await self._send(number)
            if pid and number % _SAMPLE_EVERY == 0:
                self.memory.append(holding.of(pid).memory)

    async def _send(self, number: int) -> None:
        kind, body, done = request(self._options.seed, number, self._files)
        try:
            exchange = self._client.exchange("POST", "/predict", body, kind)
            answer = await asyncio.wait_for(exchange, _TIMEOUT_S)
        except wire.BROKEN as error:
            wrong = f"no answer: {error!r}"
        else:
            self.statuses[answer.status] += 1
            wrong = complaint(answer)
        if wrong:
            folder: Path = self._options.keep
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{self._options.seed}-{number}").write_bytes(body)
            self.failures.append(f"{number} ({done}; {kind}): {wrong}")


def request(seed: int, number: int, files: seeds.Seeds) -> tuple[str, bytes, str]:
    """Return content type and body of a request with broken photos, and what was done to them."""
    chance = random.Random(f"{number}:{seed}")  # noqa: S311
    done, photo = mutations.mutated(seed, number, files)
    if chance.random() < 0.5:
        return chance.choice(("image/jpeg", "image/png", "image/x-unknown")), photo, done
    photos = [photo]
    if chance.random() < 0.3:  # among good ones
        photos += chance.choices(list(files.values()), k=chance.randint(1, 8))
        chance.shuffle(photos)
    body, kind = wire.form(photos)
    return kind, body, done


def complaint(answer: wire.Answer) -> str:
    """Return what is wrong with an answer; nothing where it is one of the documented."""
    if answer.status not in _STATUSES:
        return f"status {answer.status}"
    kind = "application/json" if answer.status == 200 else "application/problem+json"
    if answer.headers.get("content-type") != kind:
        return f"content type {answer.headers.get('content-type')!r}"
    try:
        told = json.loads(answer.body)
        if told["request_id"] != answer.headers["x-request-id"]:
            return "the ids of body and header differ"
        if answer.status != 200:
            return (
                ""
                if told["status"] == answer.status and told["title"] and told["detail"]
                else "an empty problem"
            )
        for prediction in told.get("predictions", [told]):
            chances, label = prediction["probabilities"], prediction["label"]
            unknown = label not in chances and label == "unknown" and 0 <= prediction["known"] <= 1
            if abs(sum(chances.values()) - 1) > 1e-6:
                return f"no probabilities: {chances}"
            if not unknown and chances[label] != max(chances.values()):
                return f"not the likeliest class: {label!r} of {chances}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"a body of another form: {error!r}"
    return ""


def growth(memory: list[float]) -> tuple[float, float]:
    """Return the memory after the warm-up, the first third, and in the end, each the median of a sixth."""
    sixth = max(1, len(memory) // 6)
    return statistics.median(memory[2 * sixth : 3 * sixth] or memory), statistics.median(memory[-sixth:])


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--count", type=int, default=5000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--keep", type=Path, default=Path("build/fuzz"), help="default: build/fuzz")
    parser.add_argument("--url", help="of a running service; default: start one")
    parser.add_argument("--pid", type=int, help="its process, to watch its memory")
    parser.add_argument("--growth", type=float, default=30.0, help="MB that are borne (default: 30)")
    parser.add_argument("--api-key")
    options = parser.parse_args()
    started = time.perf_counter()
    fuzzer: Fuzzer | None = None
    failures: list[str] = []
    try:
        with contextlib.ExitStack() as stack:
            url, pid = (options.url, options.pid) if options.url else stack.enter_context(process.service())
            try:
                client = wire.Client.of(url, options.api_key)
            except ValueError as error:
                parser.error(str(error))
            fuzzer = Fuzzer(client, options)
            asyncio.run(fuzzer.run(pid))
    except process.ProcessError as error:
        failures.append(str(error))
    if fuzzer:
        failures = fuzzer.failures + failures
        told = ", ".join(f"{count} x {status}" for status, count in sorted(fuzzer.statuses.items()))
        print(f"{fuzzer.statuses.total()} answers in {time.perf_counter() - started:.0f} s: {told}")
        if fuzzer.memory:
            before, after = growth(fuzzer.memory)
            most = max(fuzzer.memory)
            print(f"memory: {before:.1f} MB after the warm-up, {after:.1f} MB in the end, most {most:.0f}")
            if after - before > options.growth:
                failures.append(f"the memory grew by {after - before:.1f} MB")
    for failure in failures:
        print(f"failed: {failure}")
    return int(bool(failures))


if __name__ == "__main__":
    sys.exit(main())
