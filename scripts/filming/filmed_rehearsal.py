"""A rehearsal in front of the camera."""

import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from scripts.filming import pages
from scripts.filming.camera import Camera
from scripts.rehearsing.machine import own_address
from scripts.rehearsing.rehearsal import ROOT, Rehearsal

_READING_S, _LONGEST_WAIT_S, _LINES = 0.08, 0.8, 40  # after that many lines, the output goes by quickly
_QUIET = {"PYTHONUNBUFFERED": "1", "PYTHONWARNINGS": "ignore", "NO_COLOR": "1", "GIT_PAGER": "cat"}
_QUIET |= {"TQDM_DISABLE": "1", "MLFLOW_LOGGING_LEVEL": "WARNING", "DO_NOT_TRACK": "1", "LOGNAME": "demo"}


class FilmedRehearsal(Rehearsal):
    """Shows every command and its output in the filmed terminal.

    The prompt shows the minutes and seconds since the start, so the viewer sees how much was cut.
    """

    name = "cats-vs-dogs-recording"
    image = f"{name}:now"
    repro = ("dvc", "repro")

    def __init__(self, folder: Path, env: Mapping[str, str], camera: Camera) -> None:
        """Take what a rehearsal takes, and the camera."""
        super().__init__(folder, {**_QUIET, **env})
        self._camera = camera
        # Names of folders and addresses of this machine do not matter to the viewer.
        self._aliases = {str(folder): "~", sys.prefix: "~/.venv", str(ROOT): "~", str(Path.home()): "~"}
        if (address := own_address()) != "127.0.0.1":
            self._aliases[address] = "this-machine"

    def copy_repository(self) -> None:
        """Copy the repository without filming it."""
        with self._camera.paused():
            self._camera.show_terminal()
            super().copy_repository()
            self._camera.show_terminal()
        self._camera.caption("A rehearsal on one machine: a release, a deployment and a rollback")

    def say(self, text: str) -> None:
        """Show a caption above an empty terminal."""
        self._camera.hold(3)
        self._camera.show_terminal()
        self._camera.caption(text)
        self._camera.hold(1)

    def show_runs(self) -> None:
        """Show the pages of MLflow."""
        pages.show_mlflow(self, self._camera)

    def show_service(self) -> None:
        """Show the pages of the service and of Prometheus."""
        pages.show_service(self, self._camera)
        pages.show_prometheus(self, self._camera)

    def execute(self, command: tuple[str, ...], env: Mapping[str, str]) -> int:
        """Show a command and its output; return its exit code."""
        minutes, seconds = divmod(int(time.monotonic() - self.started), 60)
        self._write(f"[{minutes:02d}:{seconds:02d}] $ {shlex.join(command)}", 0.8)
        output = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT}
        with subprocess.Popen(command, cwd=self.project, env=env, text=True, **output) as process:  # type: ignore[call-overload]  # noqa: S603
            since = time.time()
            for number, line in enumerate(process.stdout):
                slow = number < _LINES
                self._camera.cut(since + (_LONGEST_WAIT_S if slow else _READING_S), time.time())
                self._write(line.rstrip("\n"), _READING_S if slow else 0.01)
                since = time.time()
        self._camera.cut(since + _LONGEST_WAIT_S, time.time())
        return int(process.returncode)

    def _write(self, line: str, seconds: float) -> None:
        for private, alias in self._aliases.items():
            line = line.replace(private, alias)
        print(line, flush=True)
        self._camera.write(line, seconds)
