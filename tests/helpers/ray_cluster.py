"""A Ray cluster of two machines on this one: two raylets, each in a network namespace of its own if possible.

Two namespaces with a cable between them are as far apart as two machines: what one must tell the other goes
over the network, and if all processes of one are killed, the other sees what it sees after a power failure.
"""

import contextlib
import importlib.util
import os
import secrets
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.conftest import REQUIRE_ALL, not_installed
from tests.helpers.paths import ROOT
from tests.helpers.waiting import until

PORT = 6000 + os.getpid() % 2000
"""Of the cluster's head: one per test process. Others of Ray listen at 8265, and at 10001 and above."""

_NO_RAY = importlib.util.find_spec("ray") is None and not REQUIRE_ALL
needs_ray = pytest.mark.skipif(
    sys.platform != "linux" or _NO_RAY,
    reason="needs Linux's /proc" if sys.platform != "linux" else not_installed("ray"),
)

_STARTS = 3  # Ray waits 30 s for its own processes, which may be too short on a busy machine


class Machine:
    """A place for processes, with an address in the network.

    Attributes:
        address: of the machine.
        environment: of its processes.
    """

    def __init__(self, folder: Path, address: str, namespace: str | None, token: str) -> None:
        self.address = address
        self._prefix = ["ip", "netns", "exec", namespace] if namespace else []
        self._log = folder / "log"
        self._started: list[subprocess.Popen[bytes]] = []
        self._mark = secrets.token_hex(8)  # by which its processes are known
        home = folder / "home"
        home.mkdir(parents=True)
        self.environment = os.environ | {
            "TEST_MACHINE": self._mark,
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token,
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def start(self, *command: str) -> subprocess.Popen[bytes]:
        """Start a program, whose output goes to the machine's log."""
        with self._log.open("ab") as log:
            process = subprocess.Popen(
                [*self._prefix, *command],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        self._started.append(process)
        return process

    def start_python(self, *arguments: str) -> subprocess.Popen[bytes]:
        return self.start(sys.executable, *arguments)

    def start_ray(self, head: str = "", folder: str = "", cpus: int = 1) -> None:
        """Start a raylet that joins the cluster of a head, or without one is the head, and wait for it."""
        place = [f"--address={head}"] if head else ["--head", f"--port={PORT}", f"--temp-dir={folder}"]
        command = [str(Path(sys.executable).parent / "ray"), "start", "--block", *place]
        command += [
            f"--node-ip-address={self.address}",
            f"--num-cpus={cpus}",
            "--object-store-memory=100000000",
        ]
        command += [] if head else ["--include-dashboard=false"]
        before = self.log.count("Ray runtime started")
        for _ in range(_STARTS):
            process = self.start(*command)
            until(
                lambda this=process: self.log.count("Ray runtime started") > before or this.poll() is not None
            )
            if process.poll() is None:
                return
        raise AssertionError(self.log)

    @property
    def log(self) -> str:
        """What its programs printed."""
        return self._log.read_text(errors="replace") if self._log.exists() else ""

    def processes(self) -> dict[int, str]:
        """Return the machine's processes and their command lines."""
        commands = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if f"TEST_MACHINE={self._mark}".encode() in (entry / "environ").read_bytes().split(b"\0"):
                    commands[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ").strip()
        return commands

    def kill(self) -> None:
        """Kill all processes, as a power failure does."""
        while processes := self.processes():
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            until(lambda killed=frozenset(processes): not killed & set(self.processes()))
        for started in self._started:
            started.wait()


@contextlib.contextmanager
def two_machines(folder: Path) -> Iterator[tuple[Machine, Machine]]:
    """Two machines that reach each other. All their processes are killed at the end."""
    token = secrets.token_hex(16)
    namespaces = [f"test-{os.getpid()}-{side}" for side in ("a", "b")]
    with contextlib.ExitStack() as stack:
        if _connect(namespaces, stack):
            addresses, names = ["10.77.0.1", "10.77.0.2"], namespaces
        else:
            addresses, names = ["127.0.0.1"] * 2, [None, None]
        first, second = (
            Machine(folder / side, address, name, token)
            for side, address, name in zip(("a", "b"), addresses, names, strict=True)
        )
        stack.callback(first.kill)
        stack.callback(second.kill)
        yield first, second


def _connect(namespaces: list[str], stack: contextlib.ExitStack) -> bool:
    """Make two network namespaces with a cable between them; False: this user or system can't."""

    def ip(*arguments: str) -> bool:
        return subprocess.run(["ip", *arguments], capture_output=True).returncode == 0

    if not shutil.which("ip") or os.geteuid() != 0:
        return False
    for name in namespaces:
        if not ip("netns", "add", name):
            return False
        stack.callback(ip, "netns", "del", name)
    one, other = namespaces
    return (
        ip("link", "add", "cable", "netns", one, "type", "veth", "peer", "name", "cable", "netns", other)
        and all(
            ip("-n", name, "link", "set", device, "up") for name in namespaces for device in ("lo", "cable")
        )
        and ip("-n", one, "addr", "add", "10.77.0.1/24", "dev", "cable")
        and ip("-n", other, "addr", "add", "10.77.0.2/24", "dev", "cable")
    )
