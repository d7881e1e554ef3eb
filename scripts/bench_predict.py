"""Measure `python -m ml predict`, or `python -m ml score`, against the limit of this machine.

The limit is the same decoding and the same network in a bare loop, with one thread per CPU and the photos in
memory. The command is measured from its start to its end. Both run in turn in every round, because a
machine's speed drifts; the last line shows medians.
"""

import csv
import statistics
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from ml.cli import whole_number
from ml.model import bundle
from ml.model.host import available_cpus
from ml.model.image import decode
from ml.model.onnx_model import open_session
from ml.paths import DEFAULT_MODEL
from scripts.common import arguments
from scripts.common.photos import decodable, find
from scripts.common.process import ROOT


def bare_loop_s(photos: list[bytes]) -> float:
    """Return the time in which a bare loop classifies the photos."""
    model, threads = bundle.read(DEFAULT_MODEL), available_cpus()
    session = open_session(model.onnx, 1)
    manifest, outputs = model.manifest, ["probabilities", "known"]

    def work(first: int) -> None:
        for photo in photos[first::threads]:
            pixels = decode(photo, manifest.image_size, manifest.resize)
            session.run(outputs, {"image": pixels[None]})

    begin = time.perf_counter()
    with ThreadPoolExecutor(threads) as pool:
        list(pool.map(work, range(threads)))
    return time.perf_counter() - begin


def command_s(name: str, paths: list[Path]) -> float:
    """Return the time that a command takes; raises CalledProcessError if it fails."""
    with tempfile.TemporaryDirectory() as folder:
        arguments = list(map(str, paths))
        if name == "score":  # which takes one source, so a list
            source = Path(folder) / "photos.csv"
            with source.open("w", newline="", encoding="utf-8") as file:
                csv.writer(file).writerows([["path"], *([photo.path] for photo in find(paths))])
            arguments = [str(source), f"{folder}/answers"]
        command = [sys.executable, "-m", "ml", name, *arguments, "--model", str(DEFAULT_MODEL)]
        begin = time.perf_counter()
        subprocess.run(command, cwd=ROOT, capture_output=True, check=True)  # noqa: S603
        return time.perf_counter() - begin


def main() -> int:
    """Run the command line; return the exit code."""
    parser = arguments.parser("bench_predict", __doc__, "photos")
    parser.add_argument("photos", nargs="+", type=Path, help="photos, or folders of photos")
    parser.add_argument("--command", choices=("predict", "score"), default="predict", help="default: predict")
    parser.add_argument("--rounds", type=whole_number(1, 1000), default=3, help="measurements (default: 3)")
    options = parser.parse_args()
    photos = decodable(parser, options.photos)
    paths = [path.resolve() for path in options.photos]
    print(f"{'photos':>8} {'command, per s':>15} {'limit, per s':>13} {'ratio':>6}")
    rounds = [(bare_loop_s(photos), command_s(options.command, paths)) for _ in range(options.rounds)]
    rates = [(len(photos) / command, len(photos) / bare, bare / command) for bare, command in rounds]
    command, bare, ratio = map(statistics.median, zip(*rates, strict=True))
    print(f"{len(photos):8} {command:15.1f} {bare:13.1f} {ratio:6.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
