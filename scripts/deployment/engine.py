"""The command of docker or podman."""

import contextlib
import json
import os
import shutil
import subprocess
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deployment.answers import dig
from deployment.cancellation import CANCELLATION
from deployment.target import DeployError

_COMMAND_S = 600  # an image may have to be pulled
_LOOK_S = 0.5


class Engine:
    """docker or podman, whichever answers.

    Attributes:
        command: as a shell takes it.
    """

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Find it.

        Args:
            environ: CONTAINER for its command; else docker, else podman.

        Raises:
            DeployError: there is none.
        """
        wanted = [environ["CONTAINER"]] if environ.get("CONTAINER") else ["docker", "podman"]
        for command in filter(shutil.which, wanted):
            with contextlib.suppress(subprocess.TimeoutExpired):
                if subprocess.run([command, "info"], capture_output=True, timeout=60).returncode == 0:  # noqa: S603
                    self.command = command
                    return
        raise DeployError(f"no {' and no '.join(wanted)} that answers; CONTAINER names another command")

    def run(
        self,
        *arguments: str,
        env: Mapping[str, str] | None = None,
        check: bool = True,
        cancellable: bool = False,
    ) -> "subprocess.CompletedProcess[str]":
        """Run it with these arguments.

        Args:
            arguments: of the command line.
            env: variables beside those of this process.
            check: raise where it fails.
            cancellable: kill it where a signal comes; else that is looked for later.

        Raises:
            DeployError: with `check`, it fails; the message is the last line that it said.
        """
        until = time.monotonic() + _COMMAND_S
        with subprocess.Popen(  # noqa: S603
            [self.command, *arguments],
            env=os.environ | dict(env or {}),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            encoding="utf-8",
            errors="replace",
            start_new_session=True,  # Ctrl-C is for this script, which then undoes in order
        ) as process:
            try:
                while True:
                    with contextlib.suppress(subprocess.TimeoutExpired):
                        output, error = process.communicate(timeout=_LOOK_S)
                        break
                    if cancellable:
                        CANCELLATION.check()
                    if time.monotonic() > until:
                        raise DeployError(f"{self.command} {arguments[0]}: not done after {_COMMAND_S} s")
            except BaseException:
                process.kill()
                raise
        done = subprocess.CompletedProcess(process.args, process.returncode, output, error)
        if check and done.returncode != 0:
            raise self._failure(done)
        return done

    def inspect(self, name: str) -> Any:
        """Return what it tells of a container; None where there is none.

        Raises:
            DeployError: it can't tell.
        """
        done = self.run("container", "inspect", name, check=False)
        if done.returncode == 0:
            return dig(json.loads(done.stdout), 0)
        if "no such" in done.stderr.lower():
            return None
        raise self._failure(done)

    def remove(self, name: str) -> None:
        """Kill and remove a container with its volumes; nothing where there is none."""
        if self.inspect(name):
            self.run("kill", name, check=False)  # podman's rm would give it time
            self.run("rm", "--force", "--volumes", name)

    def _failure(self, done: "subprocess.CompletedProcess[str]") -> DeployError:
        # Lines that begin so are podman's own log.
        lines = [line for line in done.stderr.splitlines() if not line.startswith("time=")]
        said = lines[-1] if lines else f"exit code {done.returncode}"
        return DeployError(f"{Path(self.command).name} {done.args[1]}: {said}")
