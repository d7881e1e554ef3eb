"""Real containers for tests: the engine at hand, the image built once, a container on a free port."""

import contextlib
import fcntl
import os
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from scripts.common.process import free_port
from tests.conftest import CONTAINERS, REQUIRE_ALL, not_installed
from tests.helpers import container_engine
from tests.helpers.paths import ROOT
from tests.helpers.service import Client
from tests.helpers.waiting import HANG_S

TAG = "cats-vs-dogs:test"
BASE = "python:3.11-slim"  # the Dockerfile's


ENGINE = container_engine.find()
needs_container = pytest.mark.skipif(ENGINE is None and not REQUIRE_ALL, reason=not_installed(CONTAINERS))


def engine(*arguments: str | Path, check: bool = True, seconds: float = HANG_S) -> str:
    """Run the engine; return its standard output.

    Raises:
        AssertionError: it fails, and `check` is set; the message is what it said.
    """
    assert ENGINE, "no docker and no podman"
    done = subprocess.run([ENGINE, *arguments], capture_output=True, text=True, timeout=seconds)
    assert not check or done.returncode == 0, done.stderr
    return done.stdout


def build(*options: str, tag: str = TAG, folder: Path = ROOT) -> str:
    """Build the image; return its id, which stays the same when another build takes the tag."""
    with tempfile.TemporaryDirectory() as temporary:
        file = Path(temporary, "id")
        environment = os.environ | {"BUILDAH_FORMAT": "docker"}  # podman's own format has no HEALTHCHECK
        command = [
            str(ENGINE),
            "build",
            "--quiet",
            "--iidfile",
            str(file),
            "--tag",
            tag,
            *options,
            str(folder),
        ]
        with Path(tempfile.gettempdir(), "cats-vs-dogs-build.lock").open("w") as lock:
            # Where tests run side by side, the second build finds everything in the first one's cache.
            fcntl.flock(lock, fcntl.LOCK_EX)
            done = subprocess.run(command, capture_output=True, text=True, env=environment)
        if done.returncode and not REQUIRE_ALL and not _has_base_image():
            pytest.skip(f"the image needs {BASE}, which can't be pulled here")
        assert done.returncode == 0, done.stderr
        return file.read_text().strip()


def _has_base_image() -> bool:
    return subprocess.run([str(ENGINE), "image", "inspect", BASE], capture_output=True).returncode == 0


class Container(Client):
    """A container on http://127.0.0.1:{port}, made but not started."""

    def __init__(
        self, image: str, options: Sequence[str], command: Sequence[str], host: bool, env: dict[str, str]
    ) -> None:
        super().__init__(free_port())
        self.name = f"test-{uuid.uuid4().hex[:12]}"
        if host:
            network = ["--network", "host"]
            env = {"HOST": "127.0.0.1", "PORT": str(self.port)} | env
        else:
            network = ["--publish", f"127.0.0.1:{self.port}:{env.get('PORT', '8080')}"]
        settings = [part for name, value in env.items() for part in ("--env", f"{name}={value}")]
        self._run = ["run", "--detach", "--name", self.name, *network, *settings, *options, image, *command]

    def start(self) -> None:
        self.started = time.perf_counter()
        engine(*self._run)

    def ended(self) -> str | None:
        """Its log, once its process has ended."""
        return None if self.inspect("{{.State.Running}}") == "true" else self.logs()

    def inspect(self, template: str) -> str:
        for _ in range(4):
            try:
                return engine("inspect", "--format", template, self.name).strip()
            except AssertionError as error:  # podman reads the cgroup of a process that has just ended
                if "no such process" not in str(error):
                    raise
        return engine("inspect", "--format", template, self.name).strip()

    def logs(self) -> str:
        done = subprocess.run(
            [str(ENGINE), "logs", self.name], capture_output=True, text=True, timeout=HANG_S
        )
        return done.stdout + done.stderr

    def run(self, *command: str, check: bool = True) -> str:
        """Run a command inside; return its standard output."""
        return engine("exec", self.name, *command, check=check)

    def stop(self, seconds: int = HANG_S) -> int:
        """Stop it by its signal, by force after so many seconds; return its exit code."""
        engine("stop", "-t", str(seconds), self.name, seconds=2 * seconds)
        return int(self.inspect("{{.State.ExitCode}}"))


@contextlib.contextmanager
def container(
    image: str, *options: str, command: Sequence[str] = (), host: bool = False, **env: str
) -> Iterator[Container]:
    """Run the image, with those options of `run` and that environment, on a free port of loopback.

    Args:
        image: its id or tag.
        options: of the engine's `run`.
        command: in place of the image's own.
        host: in the network of this machine, where it reaches servers on loopback, rather than in its own.
        env: its environment.
    """
    running = Container(image, options, command, host, env)
    try:
        running.start()
        yield running
    finally:
        engine("kill", running.name, check=False)  # podman's rm would wait for it to end of itself
        engine("rm", "--force", "--volumes", running.name, check=False)
