"""Camera that films a browser window, and the files made from the film."""

import subprocess
from html import escape
from pathlib import Path
from typing import Any

from PIL import Image, ImageDraw
from playwright.sync_api import Playwright

from scripts.common.chromium import launch

WIDTH, HEIGHT, RATE = 1280, 720, 10
_BROWSER = ["--disable-gpu", "--disable-background-networking", "--disable-component-update"]
_TERMINAL = Path(__file__).with_name("terminal.html").as_uri()
_CAPTION = """<div style="position: fixed; inset: auto 0 0; padding: 20px 24px; background: #22263a;
color: #fff; font: 19px/28px 'DejaVu Sans', sans-serif">%s
<small style="float: right; opacity: .6">waits are cut; the prompt shows the time</small></div>"""
_MLFLOW_SETTINGS = """localStorage.setItem("mlflow.workflowType_v1", '"machine_learning"');
localStorage.setItem("mlflow.assistant.fab.autoOpenedOnFirstLoad_v1", "true");
localStorage.setItem("mlflow.assistant.panelOpen_v1", "false");"""


class Camera:
    """Films a browser window, only during `hold` and `write`: all other time is cut.

    Attributes:
        page: the page that is filmed.
        seconds: length of the film.
    """

    def __init__(self, playwright: Playwright, frames: Path, target: Path) -> None:
        """Open an empty page.

        Args:
            playwright: starts the browser.
            frames: new folder for the pictures of the film.
            target: folder for the files made from it.
        """
        browser = launch(playwright.chromium, _BROWSER)
        # Content security policies would forbid the style of the caption.
        self.page = browser.new_page(viewport={"width": WIDTH, "height": HEIGHT}, bypass_csp=True)
        self.page.add_init_script(_MLFLOW_SETTINGS)  # without an assistant that covers the page
        self._folder, self._target = frames, target
        frames.mkdir(parents=True)
        self._caption: Any = None
        self._playlist: list[str] = []
        self.seconds = self._unseen_s = 0.0

    def caption(self, text: str) -> None:
        """Show a caption at the bottom of this page and of those that follow."""
        if self._caption:
            self._caption.close()
        self._caption = self.page.screencast.show_overlay(_CAPTION % escape(text))

    def show_terminal(self) -> None:
        """Show an empty terminal."""
        self.page.goto(_TERMINAL)

    def write(self, line: str, seconds: float) -> None:
        """Add a line to the terminal, and show it for a time."""
        self.page.evaluate("line => addLine(line)", line)
        self._film(seconds)

    def hold(self, seconds: float) -> None:
        """Film what happens on the page."""
        for _ in range(round(seconds * RATE)):
            self.page.wait_for_timeout(1000 / RATE)
            self._film(1 / RATE)

    def _film(self, seconds: float) -> None:
        """Show the page as it is; a time too short to be seen is added to the next."""
        self._unseen_s += seconds
        if self._unseen_s >= 1 / RATE:
            name = f"{len(self._playlist):06d}.jpg"
            self.page.screenshot(path=self._folder / name, type="jpeg", quality=92)
            self._playlist.append(f"file '{name}'\nduration {self._unseen_s:.3f}\n")
            self.seconds, self._unseen_s = self.seconds + self._unseen_s, 0.0

    def picture(self, name: str, play_button: bool = False, full_page: bool = False) -> None:
        """Write what the page shows as a PNG of 256 colours."""
        target = self._target / name
        self.page.screenshot(path=target, full_page=full_page)
        with Image.open(target) as screenshot:
            image = screenshot.convert("RGB")
        if play_button:
            x, y, draw = WIDTH - 60, HEIGHT - 112, ImageDraw.Draw(image)  # above the caption
            draw.ellipse((x - 28, y - 28, x + 28, y + 28), fill="#8f85ff")
            draw.polygon(((x - 9, y - 14), (x - 9, y + 14), (x + 16, y)), fill="white")
        image.quantize(256).save(target, optimize=True)

    def save(self, name: str) -> None:
        """Write the film as an MP4.

        Raises:
            subprocess.CalledProcessError: ffmpeg failed; it has printed why.
        """
        playlist = self._folder / "frames.txt"
        # ffmpeg ignores the duration of the last entry, so the last picture is listed twice.
        playlist.write_text("".join([*self._playlist, *self._playlist[-1:]]), "utf-8")
        command = ["ffmpeg", "-loglevel", "error", "-y", "-f", "concat", "-i", str(playlist)]
        command += ["-vf", f"fps={RATE},format=yuv420p", "-c:v", "libx264", "-preset", "slow", "-crf", "26"]
        command += ["-movflags", "+faststart", str(self._target / name)]
        subprocess.run(command, check=True)  # noqa: S603
