"""Put the service under mixed load; check that it does not fail and that its resources do not grow.

Valid and broken photos, slow senders, large bodies, clients that hang up, bursts over capacity and health
checks arrive at the same time. Prints the memory, open files and threads of the service over time, and the
number of answers of each kind. The exit code is 1 if an answer is not an expected one, if a connection that
the client kept open breaks, or if memory, open files or threads grow after the warm-up, which is the first
fifth of the time. If API_KEY is set, it is sent as X-API-Key.
"""

import argparse
import http.client
import json
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Collection
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import urllib3
from PIL import Image

from scripts.common import arguments
from scripts.common.arguments import at_least
from scripts.common.pictures import encoded
from scripts.common.process import ProcessError
from scripts.stress import command, mutations, seeds, usage
from scripts.stress.client import BROKEN, OVER_LIMIT_BYTES, Client, form
from scripts.stress.rude import RudeClient

_BURST = 120
_WORKERS = 8
_PREDICTED = (200, 503)
_REJECTED = (400, 413, 415, 422)

Response = urllib3.BaseHTTPResponse | http.client.HTTPResponse


class Soak:
    """Clients that run side by side until `stop` is set, and a count of the answers."""

    def __init__(self, client: Client) -> None:
        self._client = client
        self._chance = random.Random(1)  # noqa: S311
        self._rude = RudeClient(client, self._chance)
        self._seeds = seeds.seeds()
        self._photo, self._large = _jpeg(500, 375), _jpeg(4000, 3000)
        self._lock = threading.Lock()
        self.stop = threading.Event()
        self.answers: Counter[str] = Counter()
        self.failures: Counter[str] = Counter()

    def start(self) -> list[threading.Thread]:
        """Start all clients, each in a thread."""
        clients = [self.valid, self.valid, self.form, self.broken, self.large, self.over_limit]
        clients += [self.announced, self.silent, self.burst, self.probes, self.feedback]
        clients += [self.slow] * 4 + [self.hang_up_in_body] * 2 + [self.hang_up_in_queue] * 2
        threads = [threading.Thread(target=self._repeat, args=(client,), daemon=True) for client in clients]
        for thread in threads:
            thread.start()
        return threads

    def _repeat(self, client: Callable[[], None]) -> None:
        while not self.stop.is_set():
            if not self.attempt(client):
                self.stop.wait(0.5)

    def attempt(self, client: Callable[[], None]) -> bool:
        """Run a client once; count it as a failure and return False if its connection breaks."""
        try:
            client()
        except BROKEN as error:
            with self._lock:
                self.failures[f"{client.__name__}: {type(error).__name__} {error}"] += 1
            return False
        return True

    def _send(
        self, expected: Collection[int], method: str, path: str, *content: Any, pause_s: float = 0.1
    ) -> None:
        """Send a request, check the response, and pause; `content` is the body and its type."""
        self._check(self._client.send(method, path, *content), expected, path)
        self.stop.wait(pause_s)

    def _check(self, response: Response, expected: Collection[int], path: str = "/predict") -> None:
        status, retry_after = response.status, response.headers.get("Retry-After")
        with self._lock:
            self.answers[f"{path} {status}"] += 1
            if status not in expected or (status == 503 and not retry_after):
                self.failures[f"{path}: status {status}, Retry-After {retry_after}; expected {expected}"] += 1

    def valid(self) -> None:
        """Send a photo as the body."""
        self._send(_PREDICTED, "POST", "/predict", self._photo)

    def form(self) -> None:
        """Send several photos of all formats in one form."""
        photos = self._chance.choices(list(self._seeds.values()), k=self._chance.randint(1, 6))
        self._send(_PREDICTED, "POST", "/predict", *form(photos))

    def broken(self) -> None:
        """Send a broken photo; some can still be decoded."""
        photo = mutations.mutated(1, self._chance.randrange(1_000_000), self._seeds)[1]
        self._send(_PREDICTED + _REJECTED, "POST", "/predict", photo or b"-")

    def large(self) -> None:
        """Send a photo of 12 megapixels."""
        self._send(_PREDICTED, "POST", "/predict", self._large, pause_s=0.5)

    def over_limit(self) -> None:
        """Send the whole of a body over MAX_UPLOAD_MB."""
        self._send((413, 503), "POST", "/predict", bytes(OVER_LIMIT_BYTES), pause_s=1)

    def announced(self) -> None:
        """Announce a body so large that the service does not read it."""
        self._check(self._rude.announce(1 << 40), (413, 503))
        self.stop.wait(1)

    def slow(self) -> None:
        """Send a photo in small pieces, over seconds."""
        self._check(self._rude.trickle(self._photo), _PREDICTED)

    def hang_up_in_body(self) -> None:
        """Hang up in the middle of a photo."""
        self._hang_up(self._large, self._chance.randrange(len(self._large)))

    def hang_up_in_queue(self) -> None:
        """Hang up before the answer."""
        self._hang_up(self._photo, len(self._photo))

    def _hang_up(self, photo: bytes, sent_bytes: int) -> None:
        self._rude.hang_up(photo, sent_bytes)
        with self._lock:
            self.answers["hung up"] += 1
        self.stop.wait(0.3)

    def silent(self) -> None:
        """Connect and send nothing."""
        self._rude.stay_silent(2)

    def burst(self) -> None:
        """Send more photos at once than workers and queue can take, over new connections."""
        if self.stop.wait(5):
            return
        self._crowd(_BURST, at_once=_BURST)

    def _crowd(self, count: int, at_once: int) -> None:
        """Send small photos over new connections, and close these."""
        crowd = Client(self._client.url)
        with ThreadPoolExecutor(at_once) as threads:
            requests = [threads.submit(crowd.send, "POST", "/predict", self._photo) for _ in range(count)]
        for request in requests:
            self._check(request.result(), _PREDICTED)
        crowd.close()

    def probes(self) -> None:
        """Request the paths that operators use, and one that does not exist."""
        for path in ("/health", "/ready", "/metrics", "/model", "/"):
            self._send((200,), "GET", path)
        self._send((404,), "GET", "/nothing")

    def feedback(self) -> None:
        """Send an invalid and a valid judgement of an answer, the latter twice."""
        self._send((400,), "POST", "/feedback", b'{"predicted": 1}', "application/json")
        response = self._client.send("POST", "/predict", self._photo)
        self._check(response, _PREDICTED)
        if response.status == 200:
            answer = json.loads(response.data)
            label = answer["label"]
            judgement = {"predicted": label, "actual": label, "request_id": answer["request_id"]}
            for _ in range(2):
                body = json.dumps(judgement).encode()
                self._send((204,), "POST", "/feedback", body, "application/json", pause_s=0.5)

    def end(self) -> None:
        """Send every worker a small photo, because a worker keeps the body or file of its last request."""
        self._crowd(5 * _WORKERS, at_once=_WORKERS)


def _jpeg(width: int, height: int) -> bytes:
    noise = Image.effect_noise((width // 8, height // 8), 90).resize((width, height))
    return encoded(Image.merge("RGB", (noise, noise.rotate(180), noise)), quality=90)


def soak(client: Client, pid: int | None, options: argparse.Namespace) -> list[str]:
    """Run the test; return one line per failure."""
    run, failures = Soak(client), []
    samples: list[usage.Usage] = []
    before = usage.usage(pid) if pid else None
    threads = run.start()
    try:
        if pid:
            usage.watch(pid, options.seconds, samples)
        else:
            time.sleep(options.seconds)
    except ProcessError as error:
        failures.append(str(error))
    run.stop.set()
    for thread in threads:
        thread.join()
    client.close()
    if pid and before and not failures:
        after = usage.when_settled(pid, before, lambda: run.attempt(run.end))
        failures += usage.growth(samples, before, after, options.growth)
    for answer, count in sorted(run.answers.items()):
        print(f"{count:8} {answer}")
    return [f"{count} x {failure}" for failure, count in run.failures.items()] + failures


def main() -> int:
    """Run the command line; return the exit code."""
    parser = arguments.parser("soak", __doc__, "--seconds 60")
    add = parser.add_argument
    add("--seconds", type=at_least(0.1), default=600.0, help="duration (default: 600)")
    add(
        "--growth",
        type=at_least(0),
        default=5.0,
        help="allowed growth of memory, percent (default: 5)",
    )
    return command.run_test(parser, soak)


if __name__ == "__main__":
    sys.exit(main())
