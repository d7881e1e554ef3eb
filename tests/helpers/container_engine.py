"""docker or podman, whichever is at hand."""

import functools
import os
import shutil
import subprocess


@functools.cache
def find() -> str | None:
    """The engine's command: CONTAINER where set, else docker, else podman; None: none answers."""
    for name in [os.environ["CONTAINER"]] if os.environ.get("CONTAINER") else ["docker", "podman"]:
        if shutil.which(name) and subprocess.run([name, "info"], capture_output=True).returncode == 0:
            return name
    return None
