#!/usr/bin/env python3
"""Measure the service against what this machine could do without one, in one run.

usage: bench.py PHOTO_OR_FOLDER... [--connections 1,8,32] [--seconds 8] [--rounds 3]

The limit is the same decoding and the same network in a bare loop, a thread a processor. Then wrk sends the
photos as forms over so many connections. Both are measured in each round, since a machine's speed drifts; the
table shows medians. Settings come from the environment, as in `MAX_CONCURRENCY=2 bench.py photos`. Needs wrk.
"""

import argparse
import os
import re
import shutil
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path.insert(0, str(ROOT))

from common import process  # noqa: E402
from stress import holding, wire  # noqa: E402

from app.engine import Engine, load  # noqa: E402
from app.settings import EMBEDDED  # noqa: E402
from ml.image import ImageError, decode  # noqa: E402

_PHOTOS = 64
_WARM_UP_S = 2
_TO_MS = {"us": 0.001, "ms": 1.0, "s": 1000.0, "m": 60_000.0}


def limit(engine: Engine, photos: list[bytes], seconds: float) -> float:
    """Photos a second in a bare loop, one thread a processor that this process may use."""
    threads = len(os.sched_getaffinity(0))
    counts = [0] * threads
    until = time.perf_counter() + seconds

    def work(number: int) -> None:
        while time.perf_counter() < until:
            photo = photos[(number + counts[number]) % len(photos)]
            engine.answer(decode(photo, engine.manifest.image_size, engine.manifest.resize)[None])
            counts[number] += 1

    workers = [threading.Thread(target=work, args=(number,)) for number in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return sum(counts) / seconds


def script(photos: list[bytes], folder: Path) -> Path:
    """Write what wrk needs to send the photos in turn."""
    for number, photo in enumerate(photos):
        body, kind = wire.form([photo])
        (folder / f"{number}.bin").write_bytes(body)
    path = folder / "post.lua"
    path.write_text(
        f"""
        local requests, sent = {{}}, 0
        init = function()
            for number = 0, {len(photos) - 1} do
                local file = io.open("{folder}/" .. number .. ".bin", "rb")
                wrk.headers["Content-Type"] = "{kind}"
                requests[number] = wrk.format("POST", "/predict", nil, file:read("*a"))
                file:close()
            end
        end
        request = function() sent = (sent + 1) % {len(photos)}; return requests[sent] end
        """
    )
    return path


def load_with_wrk(url: str, lua: Path, connections: int, seconds: int) -> tuple[float, float, float]:
    """Return answers a second, and the median and the 99th percentile of the latency in ms.

    Raises:
        ProcessError: an answer was no success, or a connection broke.
    """
    command = ["wrk", "-t1", f"-c{connections}", "--timeout", "30s", "--latency", "-s", str(lua)]
    for duration in (_WARM_UP_S, seconds):
        run = [*command, f"-d{duration}s", url]
        told = subprocess.run(run, capture_output=True, text=True, check=True).stdout  # noqa: S603
    if "Non-2xx" in told or "Socket errors" in told:
        raise process.ProcessError(f"wrk with {connections} connections: {told}")
    found = re.search(r"Requests/sec:\s+([\d.]+)", told)
    tail = dict(re.findall(r"^\s+(50|99)%\s+(\S+)", told, re.MULTILINE))
    if not found or len(tail) < 2:
        raise process.ProcessError(f"wrk tells nothing: {told}")
    return float(found[1]), _ms(tail["50"]), _ms(tail["99"])


def _ms(text: str) -> float:
    number, unit = re.fullmatch(r"([\d.]+)(\D+)", text).groups()  # type: ignore[union-attr]
    return float(number) * _TO_MS[unit]


def main() -> int:
    """Run as the command line says."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("photos", nargs="+", type=Path)
    parser.add_argument("--connections", default="1,8,32")
    parser.add_argument("--seconds", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    files = [f for path in options.photos for f in (sorted(path.rglob("*.jpg")) if path.is_dir() else [path])]
    try:
        photos = [file.read_bytes() for file in files[:_PHOTOS]]
        for photo in photos:
            decode(photo)
    except (OSError, ImageError) as error:
        parser.error(f"a photo can't be used: {error}")
    if not photos:
        parser.error("no photos")
    if not shutil.which("wrk"):
        parser.error("wrk is not installed; Debian's package goes by that name")
    engine = load(EMBEDDED, "onnx", 1)
    rows: dict[int, list[tuple[float, float, float, float]]] = {}
    try:
        with tempfile.TemporaryDirectory() as folder, process.service(LOG_LEVEL="info") as (url, pid):
            lua = script(photos, Path(folder))
            idle = holding.of(pid).memory
            for _ in range(options.rounds):
                bare = limit(engine, photos, options.seconds)
                for connections in map(int, options.connections.split(",")):
                    figures = load_with_wrk(url, lua, connections, options.seconds)
                    rows.setdefault(connections, []).append((bare, *figures))
            loaded = holding.of(pid).memory
    except (process.ProcessError, FileNotFoundError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    print(f"{'connections':>11} {'a second':>9} {'of limit':>9} {'limit':>7} {'median ms':>10} {'p99 ms':>8}")
    for connections, found in rows.items():
        share = statistics.median(rate / bare for bare, rate, _, _ in found)
        bare, rate, median, p99 = map(statistics.median, zip(*found, strict=True))
        print(f"{connections:11} {rate:9.1f} {share:9.0%} {bare:7.1f} {median:10.1f} {p99:8.1f}")
    print(f"memory (PSS): {idle:.0f} MB idle, {loaded:.0f} MB after load")
    return 0


if __name__ == "__main__":
    sys.exit(main())
