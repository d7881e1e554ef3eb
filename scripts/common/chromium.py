"""Where Chromium is."""

import os
import shutil

# The first one has no window, and takes half of the others' CPU time.
_NAMES = ("chromium-headless-shell", "chromium", "chromium-browser", "google-chrome")
CHROMIUM = os.environ.get("CHROMIUM") or next(filter(None, map(shutil.which, _NAMES)), None)
"""Its command, or None if it is not installed."""
