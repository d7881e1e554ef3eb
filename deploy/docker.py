"""A container on this machine, run by docker or podman.

Environment: CONTAINER, the engine's command (default: docker, or podman if docker does not answer), and for
the smoke test API_KEY and METRICS_TOKEN.

The container NAME is the last one that passed the smoke test. A new one runs as NAME-next on the same port
while NAME is stopped; once it has passed, NAME becomes NAME-previous and NAME-next becomes NAME. So the
names alone say how far a killed run came, and the next run completes or undoes it.
"""

import argparse
import contextlib
import fcntl
import json
import os
import re
import shutil
import subprocess
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy import command
from deploy.output import quote, say
from deploy.process import failure, run
from deploy.smoke import is_ready
from deploy.target import DeployError, Deployment, Variables, Wait

EXAMPLE = "python -m deploy docker --image cats-vs-dogs --port 8080 --env API_KEYS"
_LABEL = "cats-vs-dogs.variables"  # names of the variables that deploys have set; the next deploy keeps them
_STOP_S = 35  # more than DRAIN_SECONDS
_LOG_LINES = 15
_INSPECTIONS = 5  # podman fails with "no such process" if the container's process ends at that very moment
# The service writes to /cache only. Each container has its own, so that a rollback needs no download.
_HARDENED = (
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--volume=/cache",
    "--pids-limit=512",
)


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    command.configure(parser)
    parser.add_argument("--name", default="cats-vs-dogs", help="the container's name (default: cats-vs-dogs)")
    parser.add_argument(
        "--bind",
        default="127.0.0.1",
        metavar="ADDRESS",
        help="address of this machine to listen on (default: 127.0.0.1)",
    )
    parser.add_argument(
        "--port", type=int, default=8080, help="port of this machine to listen on (default: 8080)"
    )


def main(arguments: argparse.Namespace) -> int:
    """Deploy or roll back."""
    return command.run(arguments, Docker)


class Engine:
    """docker or podman; `command` is its name or path."""

    def __init__(self, environ: Mapping[str, str]) -> None:
        """Find the command, which CONTAINER may name; raise DeployError if it does not answer."""
        wanted = [environ["CONTAINER"]] if environ.get("CONTAINER") else ["docker", "podman"]
        for name in filter(shutil.which, wanted):
            with contextlib.suppress(DeployError):
                if run(name, "info", seconds=60, check=False).returncode == 0:
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


class Docker:
    """A container with a fixed name and port."""

    def __init__(self, environ: Mapping[str, str], options: argparse.Namespace) -> None:
        """Find the engine; raise DeployError if there is none, or if the name is wrong."""
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,60}", options.name):
            raise DeployError("--name: a container's name consists of letters, digits and _.-")
        self._engine, self._timeout_s, self._poll_s = Engine(environ), options.timeout, options.poll
        self._name, self._next, self._previous = (options.name + end for end in ("", "-next", "-previous"))
        host = f"[{options.bind}]" if ":" in options.bind else options.bind
        self._publish = f"{host}:{options.port}:8080"
        self._repairs = not options.dry_run

    def current(self) -> Deployment | None:
        """Complete or undo what a killed run left, and return the container that runs. See `Target`."""
        self._lock()
        if self._repairs:
            self._repair()
        container = self._engine.inspect(self._name)
        return _deployment(container) if container and container["State"]["Running"] else None

    def previous(self, wanted: str) -> Deployment | None:
        """Return the container before. See `Target`."""
        container = self._engine.inspect(self._previous)
        return _deployment(container) if container and wanted in ("", _id(container)) else None

    def stage(self, image: str, variables: Variables) -> str:
        """Run the image as NAME-next in place of the container that runs. See `Target`."""
        changed = self._kept_variables() | dict(variables)
        environ = {name: value for name, value in changed.items() if value is not None}
        say(f"{self._next}: {image}")
        self._engine.run(
            *("create", "--name", self._next, "--publish", self._publish, "--restart=unless-stopped"),
            *(f"--stop-timeout={_STOP_S}", *_HARDENED, "--label", f"{_LABEL}={','.join(environ)}"),
            # Without the values, which come from the environment: everyone can read a command line.
            *(f"--env={name}" for name in environ),
            image,
            env=os.environ | environ,
            cancellable=True,  # the image may have to be pulled
        )
        return self._start_next()

    def promote(self) -> str:
        """Make NAME-next NAME, and NAME NAME-previous. See `Target`."""
        self._engine.remove(self._previous)
        if self._engine.inspect(self._name):
            self._engine.run("rename", self._name, self._previous)
        self._engine.run("rename", self._next, self._name)
        return _url(self._engine.inspect(self._name) or {})

    def roll_back(self, to: Deployment | None) -> str:
        """Run the container before again. See `Target`."""
        previous = self._engine.inspect(self._previous)
        if to and previous and _id(previous) == to.id:
            if self._engine.inspect(self._next) is None:
                return self._swap()
            self._engine.run("rename", self._previous, self._name)  # `promote` failed between two renames
        self._engine.remove(self._next)
        return self._restart() if to else ""

    def _swap(self) -> str:
        """Run NAME-previous as NAME, which becomes NAME-previous; undo it if that fails."""
        self._engine.run("rename", self._previous, self._next)
        try:
            self._start_next()
            return self.promote()
        except BaseException:
            if self._engine.inspect(self._next):
                self._engine.run("stop", self._next)
                self._engine.run("rename", self._next, self._previous)
            with contextlib.suppress(DeployError):  # the first error is the one to report
                self._restart()
            raise

    def _start_next(self) -> str:
        """Start NAME-next in place of NAME, and return its URL once it is ready."""
        if self._engine.inspect(self._name):
            self._engine.run("stop", self._name)
        self._engine.run("start", self._next)
        return self._until_ready(self._next)

    def _restart(self) -> str:
        """Start NAME unless it runs, and return its URL once it is ready."""
        container = self._engine.inspect(self._name)
        if not (container and container["State"]["Running"]):
            self._engine.run("start", self._name)
        return self._until_ready(self._name)

    def _repair(self) -> None:
        """Complete or undo what a killed run left."""
        named, previous = self._engine.inspect(self._name), self._engine.inspect(self._previous)
        if self._engine.inspect(self._next) is None:
            return
        if named or not previous:
            say(f"a run was cut off before {self._next} had passed the smoke test: removing it")
            self._engine.remove(self._next)
        else:
            say(f"a run was cut off after {self._next} had passed the smoke test: it becomes {self._name}")
            self._engine.run("rename", self._next, self._name)
        if self._engine.inspect(self._name):
            self._restart()

    def _lock(self) -> None:
        """Keep other deploys of this name out until this process ends."""
        path = Path(tempfile.gettempdir(), f"deploy-{self._name}-{os.getuid()}.lock")
        self._locked = path.open("a")
        try:
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DeployError(f"another deploy of {self._name} is under way") from None

    def _kept_variables(self) -> dict[str, str | None]:
        """Return the variables that earlier deploys have set."""
        container = self._engine.inspect(self._name)
        if container is None:
            return {}
        names = (container["Config"]["Labels"] or {}).get(_LABEL, "").split(",")
        entries = [entry.partition("=") for entry in container["Config"]["Env"] or []]
        return {name: value for name, _, value in entries if name in names}

    def _until_ready(self, name: str) -> str:
        """Wait until the container is ready and return its URL; if it fails, show the end of its log."""
        wait = Wait(self._timeout_s, self._poll_s)
        restarts = (self._engine.inspect(name) or {}).get("RestartCount")
        try:
            while True:
                container = self._engine.inspect(name) or {}
                state = container.get("State", {})
                if not state.get("Running") or container.get("RestartCount") != restarts:
                    code = state.get("ExitCode")  # 0 if the engine has already started it again
                    raise DeployError(f"{name} has ended by itself" + (f", exit code {code}" if code else ""))
                if is_ready(url := _url(container)):
                    return url
                wait.pause("not ready yet")
        except DeployError:
            done = self._engine.run("logs", f"--tail={_LOG_LINES}", name, check=False)
            for line in (done.stdout + done.stderr).splitlines():
                quote(line)
            raise


def _id(container: dict[str, Any]) -> str:
    return str(container["Id"])[:12]


def _url(container: dict[str, Any]) -> str:
    """Return the address where a container answers when it runs."""
    binding = container["HostConfig"]["PortBindings"]["8080/tcp"][0]
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(binding["HostIp"], binding["HostIp"])  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{binding['HostPort']}"


def _deployment(container: dict[str, Any]) -> Deployment:
    image = container.get("ImageName") or container["Config"]["Image"]  # podman's, docker's
    return Deployment(_id(container), image, _url(container))
