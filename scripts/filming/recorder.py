"""The rehearsal's commands, with what they say and when they say it."""

import codecs
import os
import re
import shlex
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path

from rehearsing.machine import own_address
from rehearsing.rehearsal import ROOT, Rehearsal

from filming.film import Scene
from filming.screen import COLUMNS, PROMPT

_LINE_END = re.compile(r"(?<=[\n\r])")
_LEFT_OUT = ("Looking in indexes:",)
"""Lines that begin so tell of this machine alone."""


class Recorder(Rehearsal):
    """A rehearsal that writes down what would be seen.

    Attributes:
        scenes: recorded so far; the last one goes on.
    """

    name = "cats-vs-dogs-recording"
    image = f"{name}:now"
    repro = ("dvc", "repro")
    identity = ()

    def __init__(self, folder: Path, env: Mapping[str, str]) -> None:
        """Take what a rehearsal takes."""
        super().__init__(folder, env)
        who = {"NAME": "demo", "EMAIL": "demo@example.org"}
        self._env |= {
            f"GIT_{role}_{part}": told for role in ("AUTHOR", "COMMITTER") for part, told in who.items()
        }
        self._env |= {"PYTHONUNBUFFERED": "1", "COLUMNS": str(COLUMNS), "GIT_PAGER": "cat", "NO_COLOR": "1"}
        self._env |= {"MLFLOW_LOGGING_LEVEL": "WARNING", "TQDM_MININTERVAL": "0.5", "LOGNAME": "demo"}
        self._env |= {"PYTHONWARNINGS": "ignore", "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "1"}
        self.scenes: list[Scene] = []
        self._began = time.monotonic()
        self._shown = {
            str(folder): "~",
            str(Path(sys.prefix).resolve()): "~/.venv",
            str(ROOT): "~",
            str(Path.home()): "~",
        }
        if (address := own_address()) != "127.0.0.1":
            self._shown[address] = "this-machine"

    @property
    def environment(self) -> dict[str, str]:
        """What the commands get."""
        return dict(self._env)

    def scene(self, name: str, step: int, caption: str) -> Scene:
        """Begin a scene."""
        self.scenes.append(Scene(name, step, caption))
        self._began = time.monotonic()
        print(f"\n=== {step}  {caption}", flush=True)
        return self.scenes[-1]

    def say(self, text: str) -> None:
        """Write a comment."""
        self._write(f"# {text}\n")

    def execute(self, command: tuple[str, ...], env: Mapping[str, str]) -> int:
        """Record a command and what it says; return its exit code."""
        self._write(f"{PROMPT}{shlex.join(command)}\n")
        running = subprocess.Popen(  # noqa: S603
            command, cwd=self.project, env=env, stdout=subprocess.PIPE, stderr=subprocess.STDOUT
        )
        assert running.stdout is not None
        decoder, rest = codecs.getincrementaldecoder("utf-8")("replace"), ""
        try:
            while piece := os.read(running.stdout.fileno(), 1 << 16):
                *whole, rest = _LINE_END.split(rest + decoder.decode(piece))
                self._write("".join(line for line in whole if not line.startswith(_LEFT_OUT)))
        except KeyboardInterrupt:
            running.terminate()
            raise
        finally:
            running.stdout.close()
            code = running.wait()
        if rest:
            self._write(f"{rest}\n")
        return code

    def _write(self, text: str) -> None:
        for path, shown in self._shown.items():
            text = text.replace(path, shown)
        if text:
            print(text, end="", flush=True)
            self.scenes[-1].events.append((time.monotonic() - self._began, text))
