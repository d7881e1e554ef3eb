"""A Ray cluster of two machines on this one: two raylets, if possible each in a network namespace of its own.

Two namespaces with a cable between them are as far apart as two machines: what one must tell the other goes over
the network, and killing one machine's processes leaves the other as if the power had failed there.
"""

import contextlib
import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from tests.helpers.paths import ROOT
from tests.helpers.waiting import until

PORT = 6399  # of Ray's head; below 10,000, where the ports of Ray's workers begin


class Machine:
    """A place for processes, with a network address.

    Attributes:
        address: of the machine.
        environment: of its processes.
    """

    def __init__(self, folder: Path, address: str, namespace: str | None, token: str) -> None:
        self.address = address
        self._mark = f"TEST_MACHINE={secrets.token_hex(8)}"
        self._prefix = ["ip", "netns", "exec", namespace] if namespace else []
        self._log = folder / "log"
        home = folder / "home"
        home.mkdir(parents=True)
        name, _, value = self._mark.partition("=")
        self.environment = os.environ | {
            name: value,
            "HOME": str(home),
            "PYTHONPATH": str(ROOT),
            "RAY_AUTH_MODE": "token",
            "RAY_AUTH_TOKEN": token,
            "RAY_USAGE_STATS_ENABLED": "0",
        }

    def start(self, *command: str) -> subprocess.Popen[str]:
        """Start a program. Its output goes to the machine's log."""
        with self._log.open("a") as log:
            return subprocess.Popen(
                [*self._prefix, *command],
                cwd=ROOT,
                env=self.environment,
                stdout=log,
                stderr=log,
                text=True,
                start_new_session=True,
            )

    def start_ray(self, folder: str, head: str | None = None, cpus: int = 1) -> subprocess.Popen[str]:
        """Start a raylet; with `head`, it joins the cluster there."""
        place = [f"--address={head}"] if head else ["--head", f"--port={PORT}", f"--temp-dir={folder}"]
        return self.start(
            f"{Path(sys.executable).parent}/ray",
            "start",
            "--block",
            *place,
            f"--node-ip-address={self.address}",
            f"--num-cpus={cpus}",
            "--object-store-memory=100000000",
            *([] if head else ["--include-dashboard=false"]),
        )

    @property
    def log(self) -> str:
        """What its programs printed."""
        return self._log.read_text() if self._log.exists() else ""

    def processes(self) -> dict[int, str]:
        """Return the machine's processes and their command lines."""
        found = {}
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if self._mark.encode() in (entry / "environ").read_bytes().split(b"\0"):
                    found[int(entry.name)] = (entry / "cmdline").read_text().replace("\0", " ").strip()
        return found

    def kill(self) -> None:
        """Kill all processes at once, as a power failure does."""
        while processes := self.processes():
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process, signal.SIGKILL)
            until(lambda stopped=processes: not set(stopped) & set(self.processes()))


@contextlib.contextmanager
def machines(folder: Path, number: int = 2) -> Iterator[list[Machine]]:
    """Two machines that reach each other. All their processes are killed at the end."""
    token = secrets.token_hex(16)
    namespaces = [f"test-{os.getpid()}-{index}" for index in range(number)]
    with contextlib.ExitStack() as stack:
        separate = _join(namespaces, stack)
        host = socket.gethostbyname(socket.gethostname())
        found = [
            Machine(
                folder / f"machine-{index}",
                f"10.77.0.{index + 1}" if separate else host,
                name if separate else None,
                token,
            )
            for index, name in enumerate(namespaces)
        ]
        for machine in found:
            stack.callback(machine.kill)
        yield found


def _join(namespaces: list[str], stack: contextlib.ExitStack) -> bool:
    """Make network namespaces with one cable from the first to each other one; False: not allowed here."""
    if not shutil.which("ip") or os.geteuid() != 0:
        return False

    def ip(*arguments: str) -> bool:
        return subprocess.run(["ip", *arguments], capture_output=True).returncode == 0

    for name in namespaces:
        if not ip("netns", "add", name):
            return False
        stack.callback(ip, "netns", "del", name)
        ip("-n", name, "link", "set", "lo", "up")
    first, second = namespaces
    made = ip("link", "add", "cable", "netns", first, "type", "veth", "peer", "name", "cable", "netns", second)
    for index, name in enumerate(namespaces):
        made = made and ip("-n", name, "addr", "add", f"10.77.0.{index + 1}/24", "dev", "cable")
        made = made and ip("-n", name, "link", "set", "cable", "up")
    return made
