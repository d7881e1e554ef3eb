"""Send broken photos to the service; check its answers, that it stays alive, and its memory.

Photos are sent as raw bodies, as forms, and several in one form. The exit code is 1 if a status is not 200,
400, 413, 415 or 422, if an answer does not have the documented form, if a connection breaks, if the process
ends, or if its memory grows. The bodies of failed requests are kept in a folder. If API_KEY is set, it is
sent as X-API-Key.
"""

import argparse
import json
import random
import sys
import threading
import time
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import urllib3

from scripts.common import arguments
from scripts.common.process import ProcessError
from scripts.stress import command, mutations, seeds
from scripts.stress.client import BROKEN, Client, form
from scripts.stress.usage import usage, warm_and_last

_STATUSES = frozenset({200, 400, 413, 415, 422})
_CONCURRENCY = 4
_SAMPLE_EVERY = 20
"""Requests between two measurements of memory."""
_MAX_FAILURES = 20
"""The test ends after this number of failures."""


class Fuzzer:
    """Sends broken photos and records what goes wrong; without `pid`, memory is not measured."""

    def __init__(self, client: Client, pid: int | None, options: argparse.Namespace) -> None:
        self._client, self._pid, self._options = client, pid, options
        self._seeds = seeds.seeds()
        self._lock = threading.Lock()
        self.statuses: Counter[int] = Counter()
        self.failures: list[str] = []
        self.memory_mb: list[float] = []

    def send(self, number: int) -> None:
        """Send the request of that number.

        Raises:
            ProcessError: the service has ended.
        """
        if len(self.failures) >= _MAX_FAILURES:
            return
        media_type, body, mutation = request(self._options.seed, number, self._seeds)
        try:
            response = self._client.send("POST", "/predict", body, media_type)
            problem = complaint(response)
            with self._lock:
                self.statuses[response.status] += 1
        except BROKEN as error:
            problem = f"no answer: {error!r}"
        if problem:
            folder: Path = self._options.keep
            folder.mkdir(parents=True, exist_ok=True)
            (folder / f"{self._options.seed}-{number}").write_bytes(body)
            self.failures.append(f"{number} ({mutation}; {media_type}): {problem}")
        if self._pid and number % _SAMPLE_EVERY == 0:
            self.memory_mb.append(usage(self._pid).memory_mb)


def request(seed: int, number: int, files: seeds.Seeds) -> tuple[str, bytes, str]:
    """Return the content type and body of a request with a broken photo, and how the photo was broken."""
    chance = random.Random(f"{number}:{seed}")  # noqa: S311
    mutation, photo = mutations.mutated(seed, number, files)
    if chance.random() < 0.5:
        return chance.choice(("image/jpeg", "image/png", "image/x-unknown")), photo, mutation
    photos = [photo]
    if chance.random() < 0.3:  # in one form with valid photos
        photos += chance.choices(list(files.values()), k=chance.randint(1, 8))
        chance.shuffle(photos)
    body, media_type = form(photos)
    return media_type, body, mutation


def complaint(response: urllib3.BaseHTTPResponse) -> str:
    """Return what is wrong with a response; an empty string if nothing is."""
    status, media_type = response.status, response.headers.get("Content-Type")
    if status not in _STATUSES:
        return f"status {status}"
    if media_type != ("application/json" if status == 200 else "application/problem+json"):
        return f"content type {media_type!r}"
    try:
        content = json.loads(response.data)
        # The id of a single prediction is signed: a full stop and a token follow.
        if content["request_id"].partition(".")[0] != response.headers["X-Request-ID"]:
            return "the request ids of body and header differ"
        if status != 200:
            complete = content["status"] == status and content["title"] and content["detail"]
            return "" if complete else "an empty problem"
        for prediction in content.get("predictions", [content]):
            probabilities, label = prediction["probabilities"], prediction["label"]
            unknown = label not in probabilities and label == "unknown" and 0 <= prediction["known"] <= 1
            if abs(sum(probabilities.values()) - 1) > 1e-6:
                return f"not probabilities: {probabilities}"
            if not unknown and probabilities[label] != max(probabilities.values()):
                return f"not the likeliest class: {label!r} of {probabilities}"
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        return f"not the documented body: {error!r}"
    return ""


def fuzz(client: Client, pid: int | None, options: argparse.Namespace) -> list[str]:
    """Run the test; return one line per failure."""
    started = time.perf_counter()
    fuzzer = Fuzzer(client, pid, options)
    failures = fuzzer.failures
    try:
        with ThreadPoolExecutor(_CONCURRENCY) as threads:
            list(threads.map(fuzzer.send, range(options.count)))
    except ProcessError as error:
        failures.append(str(error))
    counts = ", ".join(f"{count} x {status}" for status, count in sorted(fuzzer.statuses.items()))
    print(f"{fuzzer.statuses.total()} answers in {time.perf_counter() - started:.0f} s: {counts}")
    if fuzzer.memory_mb:
        before, after = warm_and_last(fuzzer.memory_mb)
        most = max(fuzzer.memory_mb)
        print(f"memory: {before:.1f} MB after the warm-up, {after:.1f} MB at the end, {most:.0f} MB at most")
        if after - before > options.growth:
            failures.append(f"the memory grew by {after - before:.1f} MB")
    return failures


def main() -> int:
    """Run the command line; return the exit code."""
    parser = arguments.parser("fuzz", __doc__, "--count 500")
    add = parser.add_argument
    add("--count", type=int, default=5000, help="number of requests (default: 5000)")
    add("--seed", type=int, default=1, help="the same seed sends the same bytes (default: 1)")
    add(
        "--keep", type=Path, default=Path("build/fuzz"), help="folder for failed bodies (default: build/fuzz)"
    )
    add("--growth", type=arguments.at_least(0), default=30.0, help="allowed memory growth, MB (default: 30)")
    return command.run_test(parser, fuzz)


if __name__ == "__main__":
    sys.exit(main())
