"""Camera that films a browser window, and the files made from the film."""

import contextlib
import subprocess
import time
from collections.abc import Iterator
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from playwright.sync_api import Page, Playwright

from scripts.common.chromium import CHROMIUM
from scripts.rehearsing.machine import RehearsalError

WIDTH, HEIGHT = 1280, 720
_BROWSER = ["--no-sandbox", "--disable-gpu", "--disable-background-networking", "--disable-component-update"]
_TERMINAL = Path(__file__).with_name("terminal.html").as_uri()
_CAPTION = """<div style="position: fixed; inset: auto 0 0; padding: 20px 24px; background: #22263a;
color: #fff; font: 19px/28px 'DejaVu Sans', sans-serif">%s
<small style="float: right; opacity: .6">waits are cut; the prompt shows the time</small></div>"""
_MLFLOW_SETTINGS = """localStorage.setItem("mlflow.workflowType_v1", '"machine_learning"');
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");"""


def open_page(playwright: Playwright) -> Page:
    """Start Chromium and return an empty page."""
    browser = playwright.chromium.launch(executable_path=CHROMIUM, args=_BROWSER)
    # Content security policies would forbid the style of the caption.
    page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, bypass_csp=True)
    page.add_init_script(_MLFLOW_SETTINGS)  # without an assistant that covers the page
    return page


class Camera:
    """Films a page from now on: the browser sends a picture whenever the page changes.

    Attributes:
        page: the page that is filmed.
    """

    def __init__(self, page: Page, frames: Path, target: Path) -> None:
        """Start to film.

        Args:
            page: the page to film.
            frames: folder for the pictures of the film.
            target: folder for the files made from it.
        """
        self.page, self._folder, self._target = page, frames, target
        self._caption: Any = None
        self._frames: list[tuple[float, Path]] = []
        self._cuts: list[tuple[float, float]] = []
        page.screencast.start(on_frame=self._keep, size={"width": WIDTH, "height": HEIGHT}, quality=92)

    def caption(self, text: str) -> None:
        """Show a caption at the bottom of this page and of those that follow."""
        if self._caption:
            self._caption.close()
        self._caption = self.page.screencast.show_overlay(_CAPTION % escape(text))

    def show_terminal(self) -> None:
        """Show an empty terminal."""
        self.page.goto(_TERMINAL)

    def write(self, line: str, seconds: float) -> None:
        """Add a line to the terminal, and leave time to read it."""
        self.page.evaluate("line => addLine(line)", line)
        self.hold(seconds)

    def hold(self, seconds: float) -> None:
        """Keep filming."""
        self.page.wait_for_timeout(seconds * 1000)

    def cut(self, start: float, end: float) -> None:
        """Leave out what happened between two moments of `time.time()`; nothing if the end is earlier."""
        if start < end:
            self._cuts = [cut for cut in self._cuts if cut[0] < start] + [(start, end)]

    @contextlib.contextmanager
    def paused(self) -> Iterator[None]:
        """Leave out what happens inside the block."""
        start = time.time()
        yield
        self.cut(start, time.time())

    def picture(self, name: str, play_button: bool = False, full_page: bool = False) -> None:
        """Write what the page shows as a PNG of 256 colours."""
        target = self._target / name
        self.page.screenshot(path=target, full_page=full_page)
        with Image.open(target) as screenshot:
            image = screenshot.convert("RGB")
        if play_button:
            x, y, draw = WIDTH - 60, HEIGHT - 34, ImageDraw.Draw(image)
            draw.ellipse((x - 28, y - 28, x + 28, y + 28), fill="#8f85ff")
            draw.polygon(((x - 9, y - 14), (x - 9, y + 14), (x + 16, y)), fill="white")
        image.quantize(256).save(target, optimize=True)

    def save(self, name: str) -> float:
        """Write the film as an MP4 and return its length in seconds.

        Raises:
            RehearsalError: see `encode`.
        """
        shown = timeline(self._frames, self._cuts, time.time())
        encode(shown, self._target / name)
        return sum(seconds for _, seconds in shown)

    def _keep(self, frame: Any) -> None:
        path = self._folder / f"{len(self._frames):06d}.jpg"
        path.write_bytes(frame["data"])
        self._frames.append((frame["timestamp"] / 1000, path))


def timeline(
    frames: list[tuple[float, Path]], cuts: list[tuple[float, float]], end: float
) -> list[tuple[Path, float]]:
    """Return the pictures that remain after the cuts, each with the seconds for which it is shown.

    Args:
        frames: the moment of each picture, in seconds, and its file, in order of time.
        cuts: start and end of the intervals to leave out; they do not overlap.
        end: moment at which the film ends.
    """

    def shown(moment: float) -> float:
        return moment - sum(min(moment, stop) - start for start, stop in cuts if start < moment)

    ends = [moment for moment, _ in frames[1:]] + [end]
    durations = [(path, shown(stop) - shown(at)) for (at, path), stop in zip(frames, ends, strict=True)]
    return [(path, seconds) for path, seconds in durations if seconds > 0.001]


def encode(shown: list[tuple[Path, float]], film: Path) -> None:
    """Write pictures as an MP4 of `WIDTH` by `HEIGHT` pixels.

    Args:
        shown: the file of each picture, of any size, and the seconds for which it is shown.
        film: the MP4; the playlist is written beside the first picture.

    Raises:
        RehearsalError: ffmpeg failed.
    """
    # ffmpeg ignores the duration of the last entry, so the last picture is listed twice.
    entries = [f"file '{path}'\nduration {seconds:.3f}\n" for path, seconds in shown]
    playlist = shown[0][0].with_name("frames.txt")
    playlist.write_text(f"{''.join(entries)}file '{shown[-1][0]}'\n", encoding="utf-8")
    command = ["ffmpeg", "-loglevel", "error", "-y", "-f", "concat", "-safe", "0", "-i", str(playlist)]
    # A browser that is still opening its window sends pictures of other sizes.
    command += ["-vf", f"scale={WIDTH}:{HEIGHT},fps=10,format=yuv420p"]
    command += ["-c:v", "libx264", "-preset", "slow", "-crf", "26", "-movflags", "+faststart", str(film)]
    done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603
    if done.returncode:
        raise RehearsalError(f"ffmpeg ended with {done.returncode}: {done.stderr.strip()}")
