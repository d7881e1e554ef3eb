"""Containers of the service on this machine: how one replaces another, and how a run that was cut off ends.

The container NAME is the last one that passed the smoke test. A new one runs as NAME-next on the same port
while NAME is stopped; once it has passed, NAME becomes NAME-previous and NAME-next becomes NAME. A rollback
does the same with NAME-previous, which is called NAME-back meanwhile. So the names alone say how far a killed
run came, and the next run completes or undoes it. If that run was rolling back, `--rollback` does so again.

After a canary, containers are behind a proxy (`deploy.haproxy`), which has the port; each of them has a port
of its own. A deploy without a canary goes back to a container that has the port itself.
"""

import argparse
import contextlib
import os
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from deploy.cancellation import CANCELLATION
from deploy.engine import ContainerEngine
from deploy.haproxy import Proxy
from deploy.output import quote, say
from deploy.smoke import is_ready
from deploy.target import DeployError, Deployment, Variables, Wait

_LABEL = "cats-vs-dogs.variables"  # names of the variables that deploys have set; the next deploy keeps them
_BEHIND = "cats-vs-dogs.behind-proxy"
_STOP_S = 35  # more than DRAIN_SECONDS
_LOG_LINES = 15
# The service writes to /cache only. Each container has its own, so that a rollback needs no download.
_HARDENED = (
    "--read-only",
    "--cap-drop=ALL",
    "--security-opt=no-new-privileges",
    "--volume=/cache",
    "--pids-limit=512",
)
Container = dict[str, Any]
"""As the engine describes it."""


class Containers:
    """Containers with a fixed name and port."""

    def __init__(self, environ: Mapping[str, str], options: argparse.Namespace) -> None:
        """Find the engine; raise DeployError if there is none, or if the name is wrong."""
        if not re.fullmatch(r"[a-zA-Z0-9][a-zA-Z0-9_.-]{0,60}", options.name):
            raise DeployError("--name: a container's name consists of letters, digits and _.-")
        self._engine, self._timeout_s, self._poll_s = ContainerEngine(environ), options.timeout, options.poll
        self._name: str = options.name
        ends = ("-next", "-previous", "-back", "-clone")
        self._next, self._previous, self._back, self._clone = (self._name + end for end in ends)
        self._port = options.port
        self._host = f"[{options.bind}]" if ":" in options.bind else options.bind
        address = f"{self._host}:{options.port}"
        self._proxy = Proxy(self._engine, f"{options.name}-proxy", options.proxy_image, address)
        self._repairs = not options.dry_run
        self._promoted = False

    def current(self) -> Deployment | None:
        """Complete or undo what a killed run left, and return the container that runs. See `Target`."""
        self._lock()
        if self._repairs:
            self._repair()
        container = self._engine.inspect(self._name)
        return self._deployment(container) if container and runs(container) else None

    def previous(self, wanted: str) -> Deployment | None:
        """Return the container before. See `Target`."""
        container = self._engine.inspect(self._previous)
        return self._deployment(container) if container and wanted in ("", id_of(container)) else None

    def stage(self, image: str, variables: Variables) -> str:
        """Run the image as NAME-next in place of the container that runs. See `Target`."""
        self._create(self._next, image, self._kept_variables() | dict(variables))
        return self._start_in_place(self._next)

    def promote(self) -> str:
        """Make NAME-next NAME, and NAME NAME-previous. See `Target`."""
        url = self._replace_name(self._next)
        self._promoted = True
        return url

    def roll_back(self, to: Deployment | None) -> str:
        """Run the container before again. See `Target`."""
        previous, named = self._engine.inspect(self._previous), self._engine.inspect(self._name)
        if to and previous and id_of(previous) == to.id:
            if self._engine.inspect(self._next) is None:
                failed = self._promoted
                url = self._swap()
                if failed:  # after `promote`; a rollback by hand must not go to it
                    self._engine.remove(self._previous)
                return url
            self._engine.run("rename", self._previous, self._name)  # `promote` failed between two renames
        elif to and named and is_behind(named) and runs(named):
            self._proxy.route({port_of(named): 100})  # before the other one ends
        self._engine.remove(self._next)
        return self._restart() if to else ""

    def _create(
        self, name: str, image: str, variables: Variables, port: int = 0, extra: tuple[str, ...] = ()
    ) -> None:
        """Make a container, with a port of its own behind the proxy if that is not 0."""
        environ = {name: value for name, value in variables.items() if value is not None}
        say(f"{name}: {image}")
        if port:
            extra += (f"{_BEHIND}=yes",)
        self._engine.run(
            *("create", "--name", name, "--publish", f"{self._host}:{port or self._port}:8080"),
            *("--restart=unless-stopped", f"--stop-timeout={_STOP_S}", *_HARDENED),
            *(f"--label={label}" for label in (f"{_LABEL}={','.join(environ)}", *extra)),
            # Without the values, which come from the environment: everyone can read a command line.
            *(f"--env={name}" for name in environ),
            image,
            env=os.environ | environ,
            cancellable=True,  # the image may have to be pulled
        )

    def _swap(self) -> str:
        """Run NAME-previous as NAME, which becomes NAME-previous; undo it if that fails."""
        self._engine.run("rename", self._previous, self._back)
        try:
            self._start_in_place(self._back)
            return self._replace_name(self._back)
        except BaseException:
            CANCELLATION.ignore()
            with contextlib.suppress(DeployError):  # the first error is the one to report
                self._end_swap()
            raise

    def _end_swap(self) -> None:
        """Undo what `_swap` has done; complete it if NAME has become NAME-previous already."""
        if self._engine.inspect(self._back) and (named := self._engine.inspect(self._name)):
            if is_behind(named) and runs(named):
                with contextlib.suppress(DeployError):  # `_restart` tries again
                    self._proxy.route({port_of(named): 100})  # before the other one ends
            self._engine.run("stop", self._back)
            self._engine.run("rename", self._back, self._previous)
        elif self._engine.inspect(self._back):
            self._engine.run("rename", self._back, self._name)
        self._restart()

    def _start_in_place(self, name: str) -> str:
        """Start one, in place of NAME unless each has a port of its own; return its URL once it is ready."""
        new, named = self._engine.inspect(name) or {}, self._engine.inspect(self._name)
        if not is_behind(new):
            self._proxy.remove()
        if named and not (is_behind(new) and is_behind(named)):
            self._engine.run("stop", self._name)
        self._engine.run("start", name)
        return self._until_ready(name)

    def _replace_name(self, name: str) -> str:
        """Make a container NAME, and NAME NAME-previous; return the public URL."""
        new = self._engine.inspect(name) or {}
        if is_behind(new):
            self._proxy.route({port_of(new): 100})
        self._engine.remove(self._previous)
        if named := self._engine.inspect(self._name):
            if runs(named):
                self._engine.run("stop", self._name)
            self._engine.run("rename", self._name, self._previous)
        self._engine.run("rename", name, self._name)
        return self._address(new)

    def _restart(self) -> str:
        """Start NAME unless it runs, and return the URL where it answers once it is ready."""
        container = self._engine.inspect(self._name) or {}
        if not is_behind(container):
            self._proxy.remove()
        if not (container and runs(container)):
            self._engine.run("start", self._name)
        self._until_ready(self._name)
        if is_behind(container):
            self._proxy.route({port_of(container): 100})
        return self._address(container)

    def _repair(self) -> None:
        """Complete or undo what a killed run left."""
        if self._engine.inspect(self._back):
            say("a rollback was cut off: completing or undoing it")
            with contextlib.suppress(DeployError):  # NAME may be the bad version, which is never ready
                self._end_swap()
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
        import fcntl  # not on Windows, where `command.run` must still be able to say so

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
        names = labels(container).get(_LABEL, "").split(",")
        return {name: value for name, value in environment(container).items() if name in names}

    def _deployment(self, container: Container) -> Deployment:
        image = container.get("ImageName") or container["Config"]["Image"]  # podman's, docker's
        return Deployment(id_of(container), image, self._address(container))

    def _address(self, container: Container) -> str:
        """Return the public URL of a container: its own, or the proxy's."""
        return _url(container, self._port if is_behind(container) else None)

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


def id_of(container: Container) -> str:
    """Return the short id of a container."""
    return str(container["Id"])[:12]


def _url(container: Container, port: int | None = None) -> str:
    """Return the address where a container answers when it runs, or another port there."""
    binding = container["HostConfig"]["PortBindings"]["8080/tcp"][0]
    host = {"": "127.0.0.1", "0.0.0.0": "127.0.0.1", "::": "::1"}.get(binding["HostIp"], binding["HostIp"])  # noqa: S104
    return f"http://{f'[{host}]' if ':' in host else host}:{port or binding['HostPort']}"


def runs(container: Container) -> bool:
    """Return whether a container runs."""
    return bool(container["State"]["Running"])


def labels(container: Container) -> dict[str, str]:
    """Return the labels of a container."""
    return container.get("Config", {}).get("Labels") or {}


def environment(container: Container) -> dict[str, str]:
    """Return the variables of a container's environment."""
    entries = [entry.partition("=") for entry in container["Config"]["Env"] or []]
    return {name: value for name, _, value in entries}


def is_behind(container: Container) -> bool:
    """Return whether the proxy has the public port, and the container its own."""
    return _BEHIND in labels(container)


def port_of(container: Container) -> int:
    """Return the port of this machine where a container answers."""
    return int(container["HostConfig"]["PortBindings"]["8080/tcp"][0]["HostPort"])
