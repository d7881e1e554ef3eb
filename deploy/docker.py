"""A container on this machine, run by docker or podman.

Environment: CONTAINER, the engine's command (default: docker, or podman if docker does not answer), and for
the smoke test API_KEY and METRICS_TOKEN.

With --canary, HAProxy runs in a container of its own, NAME-proxy, and has the port. The two versions listen
on the next two ports, where Prometheus must scrape them; --targets writes a file for its file_sd_configs. The
first canary restarts the container that serves, to give it another port, so that the service does not answer
for a second or two. The proxy stays until the next deploy without --canary. Docker must run on Linux, because
the proxy uses the network of this machine.
"""

import argparse
import dataclasses
import json
from collections.abc import Mapping
from pathlib import Path
from urllib.parse import urlsplit

from deploy import command
from deploy.containers import Containers, environment, id_of, is_behind, labels, port_of, runs
from deploy.haproxy import IMAGE
from deploy.output import complain, say
from deploy.smoke import model_of
from deploy.target import DeployError, Deployment, Unfinished, Variables
from ml.cli import port
from ml.model.files import replaced
from ml.model.urls import LOOPBACK

EXAMPLE = """python -m deploy docker --image cats-vs-dogs --port 8080 --env API_KEYS
  python -m deploy docker --image cats-vs-dogs --canary 10,50 --prometheus http://localhost:9090"""
_CANARY = "cats-vs-dogs.canary"


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
        "--port", type=port, default=8080, help="port of this machine to listen on (default: 8080)"
    )
    parser.add_argument(
        "--proxy-image", default=IMAGE, metavar="IMAGE", help=f"HAProxy's, for a canary (default: {IMAGE})"
    )
    parser.add_argument(
        "--targets",
        type=Path,
        metavar="FILE",
        help="write the addresses that Prometheus must scrape to this file, for file_sd_configs",
    )


def main(arguments: argparse.Namespace) -> int:
    """Deploy or roll back."""
    return command.run(arguments, Docker)


class Docker(Containers):
    """Containers with a fixed name and port, and a proxy that can divide the traffic between two of them."""

    def __init__(self, environ: Mapping[str, str], options: argparse.Namespace) -> None:
        """Find the engine; raise DeployError if there is none, or if an option is wrong."""
        model = urlsplit(command.variables(options).get("MODEL_URL") or "")
        if model.scheme != "file" and model.hostname in LOOPBACK:
            raise DeployError(
                f"MODEL_URL: in a container, {model.hostname} is the container itself, not this machine"
            )
        super().__init__(environ, options)
        self._targets = options.targets
        # Ids of the containers that `_put_behind_proxy` has replaced, with those of their copies.
        self._copies: dict[str, str] = {}

    def unfinished(self) -> Unfinished | None:
        """Return the canary whose candidate is NAME-next. See `SplittingTarget`."""
        staged = self._engine.inspect(self._next)
        if staged is None or _CANARY not in labels(staged):
            return None
        share = self._proxy.shares().get(port_of(staged), 0)
        return Unfinished(environment(staged).get("DEPLOYMENT", ""), share)

    def stage_beside(self, image: str, variables: Variables) -> str:
        """Run the image as NAME-next on a port of its own. See `SplittingTarget`."""
        kept = self._kept_variables()
        self._create(
            self._next, image, kept | dict(variables), self._free_port(self._name), (f"{_CANARY}=yes",)
        )
        return self.resume(image, variables)

    def resume(self, image: str, variables: Variables) -> str:
        """Start NAME-next unless it runs. See `SplittingTarget`."""
        if not runs(self._engine.inspect(self._next) or {}):
            self._engine.run("start", self._next)
        url = self._until_ready(self._next)
        self._write_targets()
        return url

    def split(self, percent: int) -> None:
        """Have the proxy divide the traffic. See `SplittingTarget`."""
        named, staged = self._engine.inspect(self._name) or {}, self._engine.inspect(self._next) or {}
        if not is_behind(named):
            self._put_behind_proxy()
            named = self._engine.inspect(self._name) or {}
        self._proxy.route({port_of(named): 100 - percent, port_of(staged): percent})
        self._write_targets()

    def promote(self) -> str:
        """Make NAME-next NAME. See `Target`."""
        url = super().promote()
        self._write_targets()
        return url

    def roll_back(self, to: Deployment | None) -> str:
        """Run the container before again. See `Target`."""
        if to:
            to = dataclasses.replace(to, id=self._copies.get(to.id, to.id))
        if self._engine.inspect(self._clone):
            self._repair_clone()
        url = super().roll_back(to)
        self._write_targets()
        return url

    def _repair(self) -> None:
        if self._engine.inspect(self._clone):
            self._repair_clone()
        staged, named = self._engine.inspect(self._next), self._engine.inspect(self._name)
        if staged and named and _CANARY in labels(staged):
            if not runs(named):  # `promote` was cut off
                self._engine.run("start", self._name)
                self._until_ready(self._name)
            return  # `unfinished` tells of it
        super()._repair()
        self._write_targets()

    def _repair_clone(self) -> None:
        """Undo or complete `_put_behind_proxy`."""
        if self._engine.inspect(self._name):
            say(f"a run was cut off before {self._name} was behind the proxy: undoing it")
            self._proxy.remove()
            self._engine.remove(self._clone)
        else:
            self._engine.run("rename", self._clone, self._name)
        self._restart()

    def _put_behind_proxy(self) -> None:
        """Replace NAME by a copy with a port of its own, and let the proxy have the port."""
        named = self._engine.inspect(self._name) or {}
        self._create(self._clone, named["Image"], self._kept_variables(), self._free_port(self._next))
        self._engine.run("start", self._clone)
        url = self._until_ready(self._clone)
        if model_of(url) != model_of(self._address(named)):  # MODEL_URL has another model by now
            raise DeployError(
                f"a copy of {self._name} has another model: deploy it with --model-sha256 first"
            )
        self._proxy.prepare()  # while NAME serves
        copy = self._engine.inspect(self._clone) or {}
        self._engine.run("stop", self._name)
        self._proxy.route({port_of(copy): 100})
        self._engine.remove(self._name)
        self._engine.run("rename", self._clone, self._name)
        self._copies[id_of(named)] = id_of(copy)

    def _free_port(self, neighbour: str) -> int:
        """Return the one of the two ports behind the proxy that another container does not have."""
        other = self._engine.inspect(neighbour)
        taken = port_of(other) if other and is_behind(other) else 0
        if not 1024 <= self._port <= 65_533:  # the proxy has no right to lower ones
            raise DeployError(
                "--port must be from 1024 to 65533 for a canary, which uses the next two ports as well"
            )
        return int(self._port) + (2 if taken == self._port + 1 else 1)

    def _write_targets(self) -> None:
        """Write what runs for Prometheus, which reads the file again when it changes."""
        if not self._targets:
            return
        names = (self._name, self._next)
        running = [one for one in map(self._engine.inspect, names) if one and runs(one)]
        addresses = [f"{self._host}:{port_of(one)}" for one in running]
        try:
            with replaced(self._targets) as file:
                file.write(json.dumps([{"targets": addresses}]).encode())
        except OSError as error:
            complain(f"--targets: {error.strerror}")
