"""Measure how the time and the memory of `python -m ml prepare` grow with the number of photos (Linux).

Generates photos of smooth noise, 256 x 192 pixels, as JPEG. Of 1,000 files, 20 are recompressed copies of
others, 10 are exact copies, and 2 are truncated. 200,000 photos need 33 GB of disk space. Memory is the peak
of all processes together (PSS).
"""

import contextlib
import os
import shutil
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image

from ml.data.dataset import FOLDER
from ml.data.ingest import RAW
from ml.model.host import available_cpus
from scripts.common import arguments
from scripts.common.pictures import encoded
from scripts.common.process import ROOT
from scripts.stress.usage import Family

_SIZE = (256, 192)
_PER_TASK = 1000
_PAUSE_S = 0.2


class Figures(NamedTuple):
    """What one run of the stage took."""

    seconds: float
    cpu_s: float
    memory_mb: float
    disk_mb: float
    summary: str


def write_photos(folder: Path, first: int) -> None:
    """Write 1,000 files, half of them to each of two classes; `first` numbers them."""
    for number in range(first, first + _PER_TASK):
        place = number % _PER_TASK
        if place % 50 == 1:
            content = encoded(_draw(number - 1), quality=75)
        elif place % 100 == 2:
            content = encoded(_draw(number - 2), quality=85)
        else:
            content = encoded(_draw(number), quality=85)
        if place % 500 == 3:
            content = content[: len(content) // 2]
        label = "even" if place < _PER_TASK // 2 else "odd"
        (folder / label / f"{number:08}.jpg").write_bytes(content)


def _draw(number: int) -> Image.Image:
    random = np.random.default_rng(number)
    coarse, fine = (
        Image.fromarray(random.integers(0, 256, (height, width, 3), np.uint8)).resize(_SIZE, filter_)
        for height, width, filter_ in (
            (6, 8, Image.Resampling.BICUBIC),
            (48, 64, Image.Resampling.BILINEAR),
        )
    )
    return Image.blend(coarse, fine, 0.15)


def generate(folder: Path, photos: int) -> None:
    """Write the photos, with one process per CPU."""
    for label in ("even", "odd"):
        (folder / label).mkdir(parents=True)
    with ProcessPoolExecutor(available_cpus()) as pool:
        list(pool.map(partial(write_photos, folder), range(0, photos, _PER_TASK)))


def prepare(project: Path) -> Figures:
    """Run the stage in a folder that has data/raw and params.yaml.

    Raises:
        CalledProcessError: it failed; its message is on standard error.
    """
    begin, cpu_s, memory_mb = time.perf_counter(), 0.0, 0.0
    command = [sys.executable, "-m", "ml", "prepare"]
    environment = os.environ | {"PYTHONPATH": str(ROOT)}
    with subprocess.Popen(  # noqa: S603
        command, cwd=project, env=environment, stdout=subprocess.PIPE, text=True
    ) as process:
        family = Family(process.pid)
        while process.poll() is None:
            memory_mb = max(memory_mb, family.memory_mb())
            cpu_s = family.cpu_s()
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(_PAUSE_S)
        seconds = time.perf_counter() - begin
        assert process.stdout is not None
        summary = process.stdout.read().partition("\n")[0]
    if process.returncode:
        raise subprocess.CalledProcessError(process.returncode, command)
    disk_bytes = sum(file.stat().st_size for file in (project / FOLDER).rglob("*"))
    return Figures(seconds, cpu_s, memory_mb, disk_bytes / 1e6, summary)


def main() -> int:
    """Run the command line; return the exit code."""
    parser = arguments.parser("growth", __doc__, "--photos 2000,20000")
    add = parser.add_argument
    add(
        "--photos",
        default="2000,20000,200000",
        help=f"numbers of photos, comma-separated, multiples of {_PER_TASK} (default: 2000,20000,200000)",
    )
    add("--folder", type=Path, help="where the photos and the results go, for a time; default: /tmp")
    options = parser.parse_args()
    try:
        counts = [int(number) for number in options.photos.split(",")]
    except ValueError:
        counts = []
    if not counts or min(counts) <= 0 or any(count % _PER_TASK for count in counts):
        parser.error(f"--photos must be multiples of {_PER_TASK}")
    print(f"{'photos':>8} {'seconds':>8} {'per s':>7} {'CPU s':>7} {'memory MB':>10} {'disk MB':>8}")
    try:
        for count in counts:
            with tempfile.TemporaryDirectory(dir=options.folder) as folder:
                project = Path(folder)
                generate(project / RAW, count)
                shutil.copy(ROOT / "params.yaml", project)
                run = prepare(project)
                print(
                    f"{count:8} {run.seconds:8.1f} {count / run.seconds:7.1f} {run.cpu_s:7.1f} "
                    f"{run.memory_mb:10.0f} {run.disk_mb:8.0f}  {run.summary}",
                    flush=True,
                )
    except (OSError, subprocess.CalledProcessError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
