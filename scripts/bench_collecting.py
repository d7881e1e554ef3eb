"""Measure what keeping photos costs: the throughput of a service that keeps them, against one that doesn't.

Both run at the same time and are measured in turn, because a machine's speed drifts; the last column is the
median of the ratios. Every photo is to be kept (COLLECT_RANDOM=1), without a limit for the day, which is more
than any real setting asks for. With --hang, the store never answers. Needs wrk.
"""

import contextlib
import re
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

from ml.cli import whole_number
from scripts.bench import Figures, run_wrk, write_wrk_script
from scripts.common import arguments, process
from scripts.common.photos import decodable
from scripts.stress.usage import Family

_PHOTOS = 64
_IDLE_S = 2.0
_COLLECT = {
    "COLLECT_CONSENT": "always",
    "COLLECT_RANDOM": "1",
    "COLLECT_PHOTOS_PER_DAY": "1000000",
    "COLLECT_MB_PER_DAY": "1000000",
    "COLLECT_PHOTOS_PER_CLIENT": "1000000",
}


@contextlib.contextmanager
def store(folder: str, hang: bool) -> Iterator[dict[str, str]]:
    """Yield the settings for a store: a folder, or a bucket on a server that accepts connections only."""
    if not hang:
        yield _COLLECT | {"COLLECT_TO": f"{folder}/kept"}
        return
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as server:
        keys = {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "x", "AWS_DEFAULT_REGION": "us-east-1"}
        endpoint = {"AWS_ENDPOINT_URL": f"http://127.0.0.1:{server.getsockname()[1]}"}
        yield _COLLECT | {"COLLECT_TO": "s3://bucket"} | endpoint | keys


def counts(url: str) -> dict[str, int]:
    """Return how many photos were kept, and how many dropped for each reason."""
    with urllib.request.urlopen(f"{url}/metrics") as response:  # noqa: S310
        text = response.read().decode()
    pattern = r'photos_(not_)?collected_total\{reason="(\w+)"\} ([\d.e+]+)'
    found = {
        ("kept: " if not dropped else "dropped: ") + reason: int(float(number))
        for dropped, reason, number in re.findall(pattern, text)
    }
    return {name: number for name, number in found.items() if number}


def wait_until_idle(url: str) -> None:
    """Wait until a service keeps nothing more, so that it doesn't disturb the other measurement."""
    before = None
    while (now := counts(url)) != before:
        before = now
        time.sleep(_IDLE_S)


def main() -> int:
    """Run the command line; return the exit code."""
    parser = arguments.parser("bench_collecting", __doc__, "photos --seconds 5")
    add = parser.add_argument
    add("photos", nargs="+", type=Path, help=f"photos, or folders of photos; the first {_PHOTOS} are used")
    add("--connections", type=whole_number(1, 1000), default=8, help="of each measurement (default: 8)")
    add("--seconds", type=whole_number(1, 3600), default=8, help="duration of a measurement (default: 8)")
    add("--rounds", type=whole_number(1, 1000), default=5, help="measurements of each service (default: 5)")
    add("--hang", action="store_true", help="keep photos in a bucket that never answers")
    options = parser.parse_args()
    photos = decodable(parser, options.photos, _PHOTOS)
    if not shutil.which("wrk"):
        parser.error("wrk is not installed; install the package of that name, for example by apt")
    pairs: list[tuple[Figures, Figures]] = []
    try:
        with (
            tempfile.TemporaryDirectory() as folder,
            store(folder, options.hang) as settings,
            process.service(COLLECT_TO="") as (without, pid),
            process.service(**settings, LOG_LEVEL="error") as (keeping, keeping_pid),
        ):
            script = write_wrk_script(photos, Path(folder))
            figures: dict[str, Figures]
            places = ((without, Family(pid)), (keeping, Family(keeping_pid)))
            for number in range(options.rounds + 1):
                figures = {}
                for url, family in places if number % 2 else reversed(places):
                    figures[url] = run_wrk(url, family, script, options.connections, options.seconds)
                    wait_until_idle(keeping)
                if number:  # in the first round, the client of the bucket is still being imported
                    pairs.append((figures[without], figures[keeping]))
            counted = counts(keeping)
    except (process.ProcessError, FileNotFoundError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{'':10} {'per second':>11} {'CPU ms':>8} {'p99 ms':>8} {'ratio':>7}")
    for name, side in (("without", 0), ("keeping", 1)):
        rate, cpu, p99 = (
            statistics.median(getattr(pair[side], figure) for pair in pairs)
            for figure in ("rate", "cpu_ms", "p99_ms")
        )
        ratio = statistics.median(pair[side].rate / pair[0].rate for pair in pairs)
        print(f"{name:10} {rate:11.1f} {cpu:8.2f} {p99:8.1f} {ratio:7.3f}")
    print(", ".join(f"{name} {number:,}" for name, number in counted.items()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
