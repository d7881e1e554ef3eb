"""Where Chromium is, and how it is started."""

import os
import shutil
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from playwright.sync_api import Browser, BrowserType

# The first one has no window, and takes half of the others' CPU time.
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
"""Its command, or None if it is not installed."""

_STEADY = Path(__file__).with_name("steady_chromium.py")


def launch(chromium: "BrowserType", args: Sequence[str] = ()) -> "Browser":
    """Start Chromium without its sandbox, and keep it from noticing changes of the machine's network.

    Args:
        chromium: of Playwright, whose own browser is started if there is no `CHROMIUM`.
        args: further arguments of its command line.
    """
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", os.defpath)])
    return chromium.launch(
        executable_path=_STEADY,
        args=["--no-sandbox", *args],
        env={**os.environ, "PATH": path, "CHROMIUM": CHROMIUM or chromium.executable_path},
    )
