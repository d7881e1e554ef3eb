"""Send traffic to the service, for demonstrations and to see alerts fire; requests do not wait for responses.

The modes:

    normal    photos as they are
    dark      photos at a quarter of their brightness
    blurred   photos out of focus
    other     the photos of --other
    bad       broken and truncated photos, text, bodies over MAX_UPLOAD_MB, paths that do not exist
    burst     every two seconds as many photos at once as --rate makes in that time

Prints one line per second, then the answers by status with their latency, and the labels. Ctrl-C ends the
traffic early. If API_KEY is set, it is sent as X-API-Key. The exit code is 1 if nothing was answered.
"""

import argparse
import contextlib
import io
import json
import math
import random
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

from PIL import Image, ImageEnhance, ImageFilter, ImageOps

from scripts.common import arguments
from scripts.common.photos import LabelledPhoto, find
from scripts.common.pictures import encoded
from scripts.common.web import RequestError
from scripts.stress import mutations, seeds
from scripts.stress.client import OVER_LIMIT_BYTES, Client
from scripts.stress.open_loop import OpenLoop, arrivals, print_latencies

MODES = ("normal", "dark", "blurred", "other", "bad", "burst")
_RATE, _BURST_RATE = 20.0, 200.0
_BURST_EVERY_S = 2.0
_PHOTOS = 300
"""Photos that are kept in memory; of more, a random sample is used."""
_CHANGES: dict[str, Callable[[Image.Image], Image.Image]] = {
    "dark": lambda image: ImageEnhance.Brightness(image).enhance(0.25),
    "blurred": lambda image: image.filter(ImageFilter.GaussianBlur(min(image.size) / 24)),
}
_BAD = {"broken": 6, "truncated": 4, "text": 4, "wrong path": 4, "wrong feedback": 2, "oversized": 1}
"""Kinds of bad requests, with their relative frequency."""

Request = tuple[str, str, bytes, str]
"""Method, path, body and media type."""


class Traffic:
    """Sends requests and counts the answers; the label of a photo is None if it is not known."""

    def __init__(
        self, client: Client, photos: list[tuple[bytes, str | None]], options: argparse.Namespace
    ) -> None:
        self._photos, self._options = photos, options
        self._chance = random.Random(options.seed)  # noqa: S311
        self._seeds = seeds.seeds()
        self._lock = threading.Lock()
        self._load = OpenLoop(client)
        self._sent = 0
        self._labels: Counter[str] = Counter()

    def run(self) -> bool:
        """Send until the time is over or Ctrl-C; print the tables; return whether anything was answered."""
        started, finished = time.monotonic(), threading.Event()
        threading.Thread(target=self._print_progress, args=(started, finished), daemon=True).start()
        with contextlib.suppress(KeyboardInterrupt):
            for count in self._counts():
                for _ in range(count):
                    self._start()
        with contextlib.suppress(KeyboardInterrupt):  # a second Ctrl-C does not wait for answers
            self._load.finish()
        finished.set()
        seconds, latencies = time.monotonic() - started, self._load.latencies()
        print(f"\n{self._sent} requests sent in {seconds:.1f} s")
        print_latencies(latencies, seconds)
        for label, count in self._labels.most_common():
            printable = label if label.isprintable() else ascii(label)
            print(f"label {printable}: {count} ({100 * count / self._labels.total():.1f} %)")
        return any(name != "error" for name in latencies)

    def _counts(self) -> Iterator[int]:
        """Yield the number of requests to send, each time when it is due."""
        options = self._options
        if options.mode != "burst":
            for _ in arrivals(options.rate, options.seconds, self._chance):
                yield 1
            return
        until = time.monotonic() + options.seconds
        while time.monotonic() < until:
            yield round(options.rate * _BURST_EVERY_S)
            time.sleep(_BURST_EVERY_S)

    def _print_progress(self, started: float, finished: threading.Event) -> None:
        while not finished.wait(1):
            answers = ", ".join(f"{name}: {len(values)}" for name, values in self._load.latencies().items())
            print(f"{time.monotonic() - started:6.0f} s  {self._sent} sent; {answers}", flush=True)

    def _start(self) -> None:
        """Send the next request. Everything random is drawn here, so that it follows from the seed."""
        photo, label = self._chance.choice(self._photos)
        self._sent += 1
        if self._options.mode == "bad":
            self._load.start(self._load.send, *bad(self._chance, photo, self._seeds))
            return
        judged_label = label if self._chance.random() < self._options.feedback else None
        self._load.start(self._predict, photo, judged_label)

    def _predict(self, photo: bytes, true_label: str | None) -> None:
        """Send a photo, count its label, and send its true label as feedback, unless that is None."""
        response = self._load.send("POST", "/predict", photo)
        if response is None or response.status != 200:
            return
        try:
            answer = json.loads(response.data)
            label, classes, request_id = str(answer["label"]), answer["probabilities"], answer["request_id"]
        except (ValueError, KeyError, TypeError):
            label, classes, request_id = "(no prediction)", (), ""
        with self._lock:
            self._labels[label] += 1
        if true_label in classes:  # the model may not have this class
            feedback = {"predicted": label, "actual": true_label, "request_id": request_id}
            body = json.dumps(feedback).encode()
            self._load.send("POST", "/feedback", body, "application/json", name="/feedback")


def bad(chance: random.Random, photo: bytes, files: seeds.Seeds) -> Request:
    """Return a request that the service should reject; some broken photos can still be decoded."""
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
            return "POST", "/predict", bytes(OVER_LIMIT_BYTES), "image/jpeg"


def read(files: list[LabelledPhoto], mode: str, seed: int) -> list[tuple[bytes, str | None]]:
    """Return photos as the mode sends them, with their true labels; print which cannot be decoded."""
    sample = random.Random(seed).sample(files, min(len(files), _PHOTOS))  # noqa: S311
    photos = []
    for photo in sample:
        try:
            photos.append((_changed(photo.path.read_bytes(), mode), photo.label))
        except (OSError, ValueError, Image.DecompressionBombError) as error:
            print(f"left out: {photo.path}: {error}", file=sys.stderr)
    return photos


def _changed(photo: bytes, mode: str) -> bytes:
    if mode not in _CHANGES:
        return photo
    with Image.open(io.BytesIO(photo)) as image:
        changed = _CHANGES[mode](ImageOps.exif_transpose(image).convert("RGB"))
    return encoded(changed, quality=90)


def _parse() -> tuple[Client, list[tuple[bytes, str | None]], argparse.Namespace]:
    parser = arguments.parser("traffic", __doc__, "http://localhost:8080 photos --mode dark --seconds 300")
    add = parser.add_argument
    add("url", help="URL of the service")
    add(
        "photos",
        nargs="+",
        type=Path,
        help="photos, or folders of photos, with one subfolder per class or not",
    )
    add("--mode", choices=MODES, default="normal", help="see above (default: normal)")
    add("--rate", type=float, help=f"requests per second (default: {_RATE:.0f}; burst: {_BURST_RATE:.0f})")
    add("--seconds", type=float, default=60.0, help="duration; inf: until Ctrl-C (default: 60)")
    add("--other", type=Path, help="photo or folder of photos for --mode other")
    add(
        "--feedback",
        type=float,
        default=0.0,
        help="share of the answers, from 0 to 1, whose true label is sent to /feedback (default: 0)",
    )
    add("--seed", type=int, default=1, help="the same seed sends the same (default: 1)")
    options = parser.parse_args()
    if options.rate is None:
        options.rate = _BURST_RATE if options.mode == "burst" else _RATE
    if not (0 < options.rate < math.inf and options.seconds > 0 and 0 <= options.feedback <= 1):
        parser.error("--rate and --seconds must be positive, --feedback from 0 to 1")
    if (options.mode == "other") != (options.other is not None):
        parser.error("--mode other and --other must be used together")
    try:
        photos = read(find([options.other] if options.other else options.photos), options.mode, options.seed)
        client = Client(options.url)
    except (OSError, RequestError) as error:
        parser.error(str(error))
    if not photos:
        parser.error("there are no photos in these folders")
    if options.feedback and not any(label for _, label in photos):
        parser.error("--feedback needs a folder with one subfolder per class")
    return client, photos, options


def main() -> int:
    """Run the command line; return the exit code."""
    if not Traffic(*_parse()).run():
        print("error: nothing was answered", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
