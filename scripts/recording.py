#!/usr/bin/env python3
"""Film the whole way on this machine: docs/recording.mp4, its picture, and docs/terminal.svg.

usage: recording.py [--again]

What is filmed is what `rehearsal.py` does, from a change of params.yaml to a rollback, with MLflow's, the
service's and Prometheus' pages beside it; nothing is staged. It runs in ~/demo, which must not be
there, and is removed in the end. Waits are cut short, and the picture says so. Takes some minutes.

--again    draw the film anew from build/recording, as the last run recorded it

Needs what rehearsal.py needs, and ffmpeg, chromium and prometheus. Exit code 0: the files are written.
"""

import argparse
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))

from common.chromium import CHROMIUM  # noqa: E402
from filming import film, pages, story, svg, video  # noqa: E402
from filming.frames import draw, frames  # noqa: E402
from filming.recorder import Recorder  # noqa: E402
from playwright.sync_api import Browser, Error, sync_playwright  # noqa: E402
from rehearsing.machine import RehearsalError, prepared  # noqa: E402

KEPT = ROOT / "build" / "recording"
DOCS = ROOT / "docs"
DEMO = Path.home() / "demo"
IN_SVG = ("change", "release", "deployment", "rollback")
LONGEST_S = 300.0
LARGEST_BYTES = 5_000_000
"""Of a file that is committed; a larger one is for the release alone."""


def missing(commands: tuple[str, ...]) -> list[str]:
    """Return what isn't installed of these, and of a browser."""
    return [name for name in commands if not shutil.which(name)] + ([] if CHROMIUM else ["chromium"])


def record(browser: Browser) -> None:
    """Do all of it, and keep what was seen in build/recording.

    Raises:
        RehearsalError: a step ended in another way than it should.
    """
    if DEMO.exists():
        raise RehearsalError(f"{DEMO} is there already; the film needs that folder")
    try:
        with prepared(DEMO / "github", Recorder.name) as env:
            shutil.rmtree(KEPT, ignore_errors=True)
            KEPT.mkdir(parents=True)
            scenes = story.film(Recorder(DEMO, env), browser, KEPT)
    finally:
        shutil.rmtree(DEMO, ignore_errors=True)
    film.save(scenes, KEPT / "film.json")


def make(browser: Browser) -> None:
    """Make the files of what was recorded.

    Raises:
        RehearsalError: the film is too long.
    """
    scenes = film.load(KEPT / "film.json")
    found = list(frames(scenes, KEPT))
    seconds = sum(frame.seconds for frame in found)
    if seconds >= LONGEST_S:
        raise RehearsalError(f"the film is {seconds:.0f} s long, and must be under {LONGEST_S:.0f}")
    with tempfile.TemporaryDirectory(prefix="frames-") as folder:
        files = draw(found, browser, Path(folder))
        video.encode(files, DOCS / "recording.mp4")
        pointed = next(number for number, frame in enumerate(found) if frame.state.get("pointer"))
        video.poster(files[pointed][0], DOCS / "recording.png")
    shown = [scene for scene in scenes if scene.name in IN_SVG]
    (DOCS / "terminal.svg").write_text(svg.animate(shown), encoding="utf-8")
    for name in ("recording.mp4", "recording.png", "terminal.svg"):
        size = (DOCS / name).stat().st_size
        print(f"docs/{name}: {size / 1e6:.2f} MB{' (too large for git)' if size > LARGEST_BYTES else ''}")
    print(f"the film is {seconds:.0f} s long")


def main() -> int:
    """Run it; return the exit code."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--again", action="store_true", help="draw what the last run recorded")
    options = parser.parse_args()
    absent = missing(("ffmpeg",) if options.again else ("ffmpeg", "prometheus", "git", "make"))
    if absent:
        print(
            f"error: not installed: {', '.join(absent)} (Debian's packages go by these names)",
            file=sys.stderr,
        )
        return 1
    try:
        with sync_playwright() as playwright:
            browser = playwright.chromium.launch(executable_path=CHROMIUM, args=pages.ARGUMENTS)
            if not options.again:
                record(browser)
            make(browser)
            browser.close()
    except KeyboardInterrupt:
        return 130
    except (RehearsalError, OSError, subprocess.CalledProcessError, Error, AssertionError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
