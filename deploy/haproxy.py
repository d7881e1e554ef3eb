"""HAProxy in a container, which divides the traffic of one port between containers on this machine.

Its configuration lies in the container, so the container alone says who gets which share.
"""

import re
import tempfile
from collections.abc import Mapping
from pathlib import Path

from deploy.cancellation import CANCELLATION
from deploy.engine import ContainerEngine
from deploy.target import DeployError

IMAGE = "haproxy:3.2"
_FILE = "/haproxy.cfg"
_RELOAD_S = 1.0  # to start, or for a former process to accept no connections any more
_RELOADS = 5
"""How often the signal is sent at most. Of 400 signals right after a start, 9 had none."""
_KEEP_ALIVE_S = 10
_DRAIN_S = 10
_LABEL = "cats-vs-dogs.address"
_CONFIGURATION = """\
global
    hard-stop-after 60s
defaults
    mode http
    option forwardfor
    option redispatch
    retries 3
    # Without this, a reload closes idle connections at once, and a request that is just being sent is lost.
    option idle-close-on-response
    timeout http-keep-alive {keep_alive_s}s
    timeout connect 5s
    timeout client 5m
    timeout server 5m
listen service
    bind {address}
    # By chance, request by request, so that both versions get the same kind of traffic.
    balance random(1)
    option httpchk GET /ready
    default-server check inter 2s fall 3 rise 1
"""


def configuration(address: str, shares: Mapping[int, int]) -> str:
    """Return HAProxy's configuration.

    Args:
        address: to listen on, such as 127.0.0.1:8080.
        shares: of the traffic, in percent, by the port of loopback or of the same address.
    """
    host = address.rpartition(":")[0]
    target = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)  # noqa: S104
    servers = [f"    server port-{port} {target}:{port} weight {share}\n" for port, share in shares.items()]
    return _CONFIGURATION.format(address=address, keep_alive_s=_KEEP_ALIVE_S) + "".join(servers)


def shares_of(text: str) -> dict[int, int]:
    """Return the shares of a configuration."""
    found = re.findall(r"^ +server port-(\d+) \S+ weight (\d+)$", text, re.MULTILINE)
    return {int(port): int(share) for port, share in found}


class Proxy:
    """HAProxy in a container, listening on an address. Every method raises DeployError if it fails."""

    def __init__(self, engine: ContainerEngine, name: str, image: str, address: str) -> None:
        self._engine, self._name, self._image, self._address = engine, name, image, address

    def prepare(self) -> None:
        """Make the container unless there is one; it takes long if the image has to be pulled."""
        if self._engine.inspect(self._name) is None:
            self._create()

    def route(self, shares: Mapping[int, int]) -> None:
        """Give shares of the traffic, in percent, to ports of this machine; start the proxy if necessary."""
        container = self._engine.inspect(self._name)
        if container and (container["Config"]["Labels"] or {}).get(_LABEL) != self._address:
            self.remove()
            container = None
        restarts = container.get("RestartCount", 0) if container else 0
        running = bool(container and container["State"]["Running"])
        before = self.shares() if running else {}
        if container is None:
            self._create()
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "haproxy.cfg")
            file.write_text(configuration(self._address, shares), encoding="utf-8")
            file.chmod(0o644)
            self._engine.run("cp", str(file), f"{self._name}:{_FILE}")
        if running:
            self._reload()
        else:
            self._engine.run("start", self._name)
            CANCELLATION.pause(_RELOAD_S)
        if before and not before.keys() & shares.keys():
            # Idle connections stay with the former process, which knows only the ports from before, and the
            # caller may stop what listens there.
            CANCELLATION.pause(_KEEP_ALIVE_S)
        container = self._engine.inspect(self._name) or {"State": {"Running": False}}
        if not container["State"]["Running"] or container.get("RestartCount", 0) != restarts:
            lines = self._engine.run("logs", "--tail=1", self._name, check=False).stderr.splitlines()
            raise DeployError(f"{self._name} has ended by itself: {(lines or ['no reason'])[-1]}")

    def _reload(self) -> None:
        """Let the proxy read its configuration again, for which it starts another process.

        A signal soon after its start can be lost: it may answer requests before it heeds signals.
        """
        before = self._processes()
        for _ in range(_RELOADS):
            self._engine.run("kill", "--signal=USR2", self._name)
            CANCELLATION.pause(_RELOAD_S)
            if self._processes() - before:
                return
        raise DeployError(f"{self._name} goes on with its former shares: it reads no configuration")

    def _processes(self) -> set[str]:
        """Return the IDs of the proxy's processes."""
        header, *lines = self._engine.run("top", self._name).stdout.splitlines()
        column = header.split().index("PID")
        return {line.split()[column] for line in lines}

    def shares(self) -> dict[int, int]:
        """Return the shares that ports have; empty if there is no proxy."""
        if self._engine.inspect(self._name) is None:
            return {}
        with tempfile.TemporaryDirectory() as folder:
            file = Path(folder, "haproxy.cfg")
            done = self._engine.run("cp", f"{self._name}:{_FILE}", str(file), check=False)
            return shares_of(file.read_text("utf-8")) if done.returncode == 0 else {}

    def remove(self) -> None:
        """Remove the proxy, if there is one; requests in progress get a moment to end."""
        if self._engine.inspect(self._name):
            self._engine.run("stop", f"--time={_DRAIN_S}", self._name, check=False)  # ends listening at once
        self._engine.remove(self._name)

    def _create(self) -> None:
        self._engine.run(
            *("create", "--name", self._name, "--network=host", "--restart=unless-stopped"),
            *("--stop-signal=USR1", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--pids-limit=64"),
            *("--label", f"{_LABEL}={self._address}", self._image),
            *("haproxy", "-W", "-db", "-f", _FILE),
            cancellable=True,  # the image may have to be pulled
        )
