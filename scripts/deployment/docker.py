"""A container on this machine, by docker or podman.

The container NAME is the one that was last found good. What is new runs as NAME-next on the same port while
NAME is stopped; when it has passed, NAME becomes NAME-previous and NAME-next becomes NAME. So the names alone
tell how far a run came that was killed, and the next run puts that right.
"""

import fcntl
import os
import re
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from deployment.answers import dig, text
from deployment.engine import Engine
from deployment.output import quote, say
from deployment.service import is_ready
from deployment.target import DeployError, Deployment, Variables, Wait

_LABEL = (
    "cats-vs-dogs.variables"  # names of the variables that a deploy has set; the next one carries them on
)
_STOP_S = 35  # more than DRAIN_SECONDS
_LOG_LINES = 15
# The service writes to /cache only. Each container has one of its own, so that a rollback needs no download.
_HARDENED = (
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--volume=/cache",
    "--pids-limit=512",
)


class Docker:
    """A container with a fixed name and port."""

    def __init__(
        self,
        environ: Mapping[str, str],
        timeout_s: float,
        poll_s: float,
        name: str,
        bind: str,
        port: int,
        mend: bool,
    ) -> None:
        """Find the engine.

        Args:
            environ: CONTAINER for the engine's command; else docker, else podman.
            timeout_s: until a container must be ready.
            poll_s: between two looks at it.
            name: of the container.
            bind: address of this machine to listen on.
            port: of this machine.
            mend: whether `current` puts right what a killed run has left.

        Raises:
            DeployError: there is no engine, or a bad name.
        """
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,60}", name):
            raise DeployError("a container's name is made of letters, digits and _.-")
        self._engine, self._timeout_s, self._poll_s = Engine(environ), timeout_s, poll_s
        self._name, self._next, self._previous = name, f"{name}-next", f"{name}-previous"
        host = f"[{bind}]" if ":" in bind else bind
        self._publish = f"{host}:{port}:8080"
        self._mend = mend
        self._going_back = False  # whether NAME-next is what was NAME-previous

    def current(self) -> Deployment | None:
        """Return the container that runs, after putting right what a killed run has left. See `Target`."""
        self._lock()
        if self._mend:
            self._heal()
        found = self._engine.inspect(self._name)
        return _deployment(found) if dig(found, "State", "Running") else None

    def previous(self, wanted: str) -> Deployment:
        """Return the container before. See `Target`."""
        found = self._engine.inspect(self._previous)
        if found is None or wanted not in ("", _id(found)):
            raise DeployError(f"there is no container {self._previous} {wanted}".rstrip() + " to go back to")
        return _deployment(found)

    def deploy(self, image: str, variables: Variables) -> Iterator[str]:
        """Run the image in place of the container that runs. See `Target`."""
        changed = self._carried_on() | dict(variables)
        environ = {name: value for name, value in changed.items() if value is not None}
        say(f"{self._next}: {image}")
        self._engine.run(
            *("create", "--name", self._next, "--publish", self._publish, "--restart=unless-stopped"),
            *(f"--stop-timeout={_STOP_S}", *_HARDENED, "--label", f"{_LABEL}={','.join(environ)}"),
            # Without the value, which comes from the environment: others can read a command line.
            *(f"--env={name}" for name in environ),
            image,
            env=environ,
            cancellable=True,  # the image may have to be pulled
        )
        yield from self._try_next()

    def roll_back(self, to: Deployment | None) -> str:
        """Run the container before again. See `Target`."""
        previous = self._engine.inspect(self._previous)
        if to and previous and _id(previous) == to.id:
            if self._engine.inspect(self._next):  # cut off between two renames
                self._engine.remove(self._next)
                self._engine.run("rename", self._previous, self._name)
                self._engine.run("start", self._name)
                return self._until_ready(self._name)
            self._going_back = True
            self._engine.run("rename", self._previous, self._next)
            try:
                for _ in self._try_next():
                    pass
            except BaseException:
                self._abandon(start=True)
                raise
            return to.url
        self._abandon(start=to is not None)
        if to is None:
            raise DeployError("there is no container before this one to go back to")
        return self._until_ready(self._name)

    def _try_next(self) -> Iterator[str]:
        """Start NAME-next where NAME was; yield its URL when it is ready; after that it is NAME."""
        if self._engine.inspect(self._name):
            self._engine.run("stop", self._name)
        self._engine.run("start", self._next)
        yield self._until_ready(self._next)
        self._engine.remove(self._previous)
        if self._engine.inspect(self._name):
            self._engine.run("rename", self._name, self._previous)
        self._engine.run("rename", self._next, self._name)

    def _abandon(self, start: bool) -> None:
        """Take NAME-next away, and start NAME again where it ran."""
        if self._going_back and self._engine.inspect(self._next):
            self._engine.run("stop", self._next)
            self._engine.run("rename", self._next, self._previous)
        else:
            self._engine.remove(self._next)
        if start and not dig(self._engine.inspect(self._name), "State", "Running"):
            self._engine.run("start", self._name)

    def _heal(self) -> None:
        """Finish or undo what a run that was killed has left."""
        named, previous = self._engine.inspect(self._name), self._engine.inspect(self._previous)
        if self._engine.inspect(self._next) is None:
            return
        if named or not previous:
            say(f"{self._next} is left from a run that was cut off before it had passed: away with it")
            self._abandon(start=named is not None)
        else:
            say(f"{self._next} had passed in a run that was cut off: it becomes {self._name}")
            self._engine.run("rename", self._next, self._name)
            self._engine.run("start", self._name)
        if self._engine.inspect(self._name):
            self._until_ready(self._name)

    def _lock(self) -> None:
        """Keep others off until this process ends.

        Raises:
            DeployError: another one is at it.
        """
        path = Path(tempfile.gettempdir(), f"deploy-{self._name}-{os.getuid()}.lock")
        self._locked = path.open("a")
        try:
            fcntl.flock(self._locked, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise DeployError(f"another deploy of {self._name} is under way") from None

    def _carried_on(self) -> dict[str, str | None]:
        """Return the variables that earlier deploys have set."""
        found = self._engine.inspect(self._name)
        names = text(found, "Config", "Labels", _LABEL).split(",")
        entries = [entry.partition("=") for entry in dig(found, "Config", "Env") or []]
        return {name: value for name, _, value in entries if name in names}

    def _until_ready(self, name: str) -> str:
        """Wait until the container is ready; return its URL. Where it fails, show the end of its log."""
        wait = Wait(self._timeout_s, self._poll_s)
        restarts = dig(self._engine.inspect(name), "RestartCount")
        try:
            while True:
                state = self._engine.inspect(name)
                if not dig(state, "State", "Running") or dig(state, "RestartCount") != restarts:
                    code = dig(state, "State", "ExitCode")  # 0 where the engine has started it again already
                    raise DeployError(f"{name} has ended by itself" + (f", exit code {code}" if code else ""))
                if is_ready(url := _url(state)):
                    wait.report("ready")
                    return url
                wait.report("not ready yet")
                wait.pause()
        except DeployError:
            done = self._engine.run("logs", f"--tail={_LOG_LINES}", name, check=False)
            for line in (done.stdout + done.stderr).splitlines():
                quote(line)
            raise


def _id(found: Any) -> str:
    return text(found, "Id")[:12]


def _url(found: Any) -> str:
    """Return where a container answers; it need not run."""
    host = text(found, "HostConfig", "PortBindings", "8080/tcp", 0, "HostIp")
    port = text(found, "HostConfig", "PortBindings", "8080/tcp", 0, "HostPort")
    local = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)  # noqa: S104
    return f"http://{f'[{local}]' if ':' in local else local}:{port}"


def _deployment(found: Any) -> Deployment:
    image = text(found, "ImageName") or text(found, "Config", "Image")  # podman's, docker's
    return Deployment(_id(found), image, _url(found))
