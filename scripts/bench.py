"""Measure the throughput of the service against the limit of this machine.

The limit is the same decoding and the same network in a bare loop, with one thread per CPU. wrk then sends
the photos as forms, over each number of connections. Both are measured in every round, because a machine's
speed drifts; the table shows medians. The service takes its settings from the environment. Needs wrk.
"""

import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from app.inference.engine import Engine
from app.inference.loading import load
from app.settings import EMBEDDED, Settings
from ml.cli import whole_number
from ml.model.host import available_cpus
from ml.model.image import decode
from scripts.common import arguments, process
from scripts.common.photos import decodable
from scripts.stress.client import form
from scripts.stress.usage import Family, usage

_PHOTOS = 64
_WARM_UP_S = 2
_TO_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


class Figures(NamedTuple):
    """What one measurement gives."""

    rate: float  # answers per second
    cpu_ms: float  # CPU time per answer
    median_ms: float = 0.0  # latency
    p99_ms: float = 0.0


def limit(engine: Engine, photos: list[bytes], seconds: float) -> Figures:
    """Measure a bare loop with one thread per available CPU."""
    threads, until, cpu_s = available_cpus(), time.perf_counter() + seconds, time.process_time()

    def work(first: int) -> int:
        count = 0
        while time.perf_counter() < until:
            photo = photos[(first + count) % len(photos)]
            pixels = decode(photo, engine.manifest.image_size, engine.manifest.resize)
            engine.answer(pixels[None], evidence=False)
            count += 1
        return count

    with ThreadPoolExecutor(threads) as pool:
        count = sum(pool.map(work, range(threads)))
    return Figures(count / seconds, 1000 * (time.process_time() - cpu_s) / count)


def write_wrk_script(photos: list[bytes], folder: Path) -> Path:
    """Write the script with which wrk sends the photos in turn; return its path."""
    for number, photo in enumerate(photos):
        body, media_type = form([photo])
        (folder / f"{number}.bin").write_bytes(body)
    path = folder / "post.lua"
    path.write_text(
        f"""
        local requests, sent = {{}}, 0
        init = function()
            for number = 0, {len(photos) - 1} do
                local file = io.open("{folder}/" .. number .. ".bin", "rb")
                wrk.headers["Content-Type"] = "{media_type}"
                requests[number] = wrk.format("POST", "/predict", nil, file:read("*a"))
                file:close()
            end
        end
        request = function() sent = (sent + 1) % {len(photos)}; return requests[sent] end
        """
    )
    return path


def run_wrk(url: str, service: Family, script: Path, connections: int, seconds: int) -> Figures:
    """Measure the service.

    Raises:
        ProcessError: an answer was not a success, or a connection broke.
    """
    command = ["wrk", "-t1", f"-c{connections}", "--timeout", "30s", "--latency", "-s", str(script)]
    for duration in (_WARM_UP_S, seconds):
        timed, cpu_s = [*command, f"-d{duration}s", url], service.cpu_s()
        output = subprocess.run(timed, capture_output=True, text=True, check=True).stdout  # noqa: S603
    cpu_s = service.cpu_s() - cpu_s
    if "Non-2xx" in output or "Socket errors" in output:
        raise process.ProcessError(f"wrk with {connections} connections: {output}")
    count = re.search(r"(\d+) requests in", output)
    rate = re.search(r"Requests/sec:\s+([\d.]+)", output)
    figures = re.findall(r"^\s+(50|99)%\s+([\d.]+)(us|ms|s|m) *$", output, re.MULTILINE)
    latencies = {percent: float(number) * _TO_MS[unit] for percent, number, unit in figures}
    if not count or not int(count[1]) or not rate or len(latencies) < 2:
        raise process.ProcessError(f"wrk reported no figures: {output}")
    return Figures(float(rate[1]), 1000 * cpu_s / int(count[1]), latencies["50"], latencies["99"])


def medians(rounds: Sequence[Figures]) -> Figures:
    """Return the median of each figure."""
    return Figures(*map(statistics.median, zip(*rounds, strict=True)))


def main() -> int:
    """Run the command line; return the exit code."""
    parser = arguments.parser("bench", __doc__, "photos --seconds 5")
    add = parser.add_argument
    add("photos", nargs="+", type=Path, help=f"photos, or folders of photos; the first {_PHOTOS} are used")
    add(
        "--connections",
        type=arguments.listed(whole_number(1, 1000)),
        default=[1, 8, 32],
        help="numbers of connections, comma-separated (default: 1,8,32)",
    )
    add("--seconds", type=whole_number(1, 3600), default=8, help="duration of a measurement (default: 8)")
    add("--rounds", type=whole_number(1, 1000), default=3, help="measurements of each figure (default: 3)")
    options = parser.parse_args()
    photos = decodable(parser, options.photos, _PHOTOS)
    if not shutil.which("wrk"):
        parser.error("wrk is not installed; install the package of that name, for example by apt")
    engine = load(EMBEDDED, "onnx", 1)
    rows: dict[int, list[tuple[Figures, Figures]]] = {}
    try:
        with tempfile.TemporaryDirectory() as folder, process.service(LOG_LEVEL="info") as (url, pid):
            script = write_wrk_script(photos, Path(folder))
            idle = usage(pid).memory_mb
            for _ in range(options.rounds):
                bare = limit(engine, photos, options.seconds)
                for connections in options.connections:
                    figures = run_wrk(url, Family(pid), script, connections, options.seconds)
                    rows.setdefault(connections, []).append((bare, figures))
            loaded = usage(pid).memory_mb
    except (process.ProcessError, FileNotFoundError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{'':11} {'answers per second':^27} {'CPU ms per answer':^27} {'latency, ms':^17}")
    columns = [*2 * (f"{'service':>9}", f"{'limit':>9}", f"{'ratio':>7}"), f"{'median':>8}", f"{'p99':>8}"]
    print(f"{'connections':>11}", *columns)
    for connections, rounds in rows.items():
        share = statistics.median(service.rate / bare.rate for bare, service in rounds)
        cost = statistics.median(service.cpu_ms / bare.cpu_ms for bare, service in rounds)
        bare, service = map(medians, zip(*rounds, strict=True))
        print(
            f"{connections:11} {service.rate:9.1f} {bare.rate:9.1f} {share:7.2f} {service.cpu_ms:9.2f} "
            f"{bare.cpu_ms:9.2f} {cost:7.2f} {service.median_ms:8.1f} {service.p99_ms:8.1f}"
        )
    workers = Settings.from_env(os.environ).max_concurrency
    print(f"workers: {workers}, memory (PSS): {idle:.0f} MB idle, {loaded:.0f} MB after load")
    return 0


if __name__ == "__main__":
    sys.exit(main())
