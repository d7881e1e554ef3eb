"""The container engine of this machine: docker or podman."""

import contextlib
import json
import shutil
import subprocess
from collections.abc import Mapping
from typing import Any

from deploy.process import failure, run
from deploy.target import DeployError

_INSPECTIONS = 5  # podman fails with "no such process" if the container's process ends at that very moment


class ContainerEngine:
    """docker or podman; `command` is its name or path."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Find the command, which CONTAINER may name; raise DeployError if it does not answer."""
        wanted = [environ["CONTAINER"]] if environ.get("CONTAINER") else ["docker", "podman"]
        for name in filter(shutil.which, wanted):
            with contextlib.suppress(DeployError):
                # Fails if the server does not answer, as `info` does, which takes four times as long.
                if run(name, "version", seconds=60, check=False).returncode == 0:
                    self.command = name
                    return
        raise DeployError(f"{' and '.join(wanted)} cannot be used; CONTAINER names another command")

    def run(self, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        """Run the engine's command; see `deploy.process.run` for the options and errors."""
        return run(self.command, *arguments, **options)

    def inspect(self, name: str) -> dict[str, Any] | None:
        """Return what the engine knows about a container, or None if there is no such container."""
        for _ in range(_INSPECTIONS):
            done = self.run("container", "inspect", name, check=False)
            if done.returncode == 0:
                container: dict[str, Any] = json.loads(done.stdout)[0]
                return container
            if "no such container" in (reason := done.stderr.lower()):
                return None
            if "no such process" not in reason:
                break
        raise failure(done)

    def remove(self, name: str) -> None:
        """Kill a container and remove it with its volumes; do nothing if there is none."""
        if self.inspect(name):
            self.run("kill", name, check=False)  # podman's rm would wait for it to stop
            self.run("rm", "--force", "--volumes", name)
