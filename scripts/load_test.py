"""Send photos at a fixed rate, independent of responses, and report the latency of each kind of answer.

Prints one row per status, and one for /health, which is requested ten times per second on average. A broken
connection and a server error other than 503 make the exit code 1. If API_KEY is set, it is sent as X-API-Key.
"""

import random
import sys
from pathlib import Path

from ml.model.photos import find
from scripts.common import arguments
from scripts.common.arguments import at_least
from scripts.common.web import RequestError
from scripts.stress.client import Client
from scripts.stress.open_loop import OpenLoop, arrivals, print_latencies

_HEALTH_RATE = 10.0


def run(
    client: Client, photos: list[bytes], rate: float, seconds: float, seed: int = 1
) -> dict[str, list[float]]:
    """Send photos at random moments, `rate` per second on average; return the latencies by status."""
    load, chance = OpenLoop(client), random.Random(seed)  # noqa: S311
    health = load.start(_ask_health, load, seconds)
    for _ in arrivals(rate, seconds, chance):
        load.start(load.send, "POST", "/predict", chance.choice(photos))
    health.result()
    load.finish()
    return load.latencies()


def _ask_health(load: OpenLoop, seconds: float) -> None:
    for _ in arrivals(_HEALTH_RATE, seconds, random.Random(0)):  # noqa: S311
        load.start(load.send, "GET", "/health", name="/health")


def main() -> int:
    """Run the command line; return the exit code."""
    parser = arguments.parser("load_test", __doc__, "http://localhost:8080 photos --rate 200")
    parser.add_argument("url", help="URL of the service")
    parser.add_argument("photos", nargs="+", type=Path, help="photos, or folders of photos")
    parser.add_argument(
        "--rate", type=at_least(0.1), default=100.0, help="requests per second (default: 100)"
    )
    parser.add_argument("--seconds", type=at_least(0.1), default=10.0, help="duration (default: 10)")
    text = "file to write for scripts.capacity: the latency of each photo in milliseconds, one per line"
    parser.add_argument("--times", type=Path, metavar="FILE", help=text)
    options = parser.parse_args()
    if options.times:  # an error after the load would lose its result
        try:
            options.times.open("a").close()
        except OSError as error:
            parser.error(f"--times: {options.times}: {error.strerror}")
    try:
        photos = [file.read_bytes() for path in options.photos for file in find(path)]
        client = Client(options.url)
    except (OSError, RequestError) as error:
        parser.error(str(error))
    if not photos:
        parser.error("there are no photos in these folders")
    latencies = run(client, photos, options.rate, options.seconds)
    print_latencies(latencies, options.seconds)
    if options.times:
        lines = (f"{1000 * value:.3f}\n" for value in latencies.get("200", []))
        options.times.write_text("".join(lines), "utf-8")
    return int(any(name == "error" or (name[0] == "5" and name != "503") for name in latencies))


if __name__ == "__main__":
    sys.exit(main())
