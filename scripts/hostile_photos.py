"""Send photos that cost as much as possible; check what each one costs the service.

The service runs with the settings of render.yaml, unless --url and --pid name another one. Every photo is
sent several times at once, because one alone may be harmless. Memory is that of the service's processes
together. The exit code is 1 if a photo takes more memory or CPU time than allowed, or is not answered in the
documented form, or if a real photo is no longer answered afterwards.
"""

import argparse
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import yaml

from ml.cli import whole_number
from scripts.common import arguments
from scripts.common.arguments import at_least
from scripts.common.process import ROOT
from scripts.fuzz import complaint
from scripts.stress import command
from scripts.stress.bombs import bombs
from scripts.stress.client import BROKEN, Client
from scripts.stress.usage import Family

_SAMPLE_S = 0.01
_REAL = ROOT / "tests" / "photos" / "cat.jpg"


def attack(client: Client, pid: int | None, options: argparse.Namespace) -> list[str]:
    """Send each photo and print what it cost; return one line per failure."""
    if pid is None:
        return ["the costs can't be measured without --pid"]
    failures, worst_mb, worst_s = [], 0.0, 0.0
    real = _REAL.read_bytes()
    names = [each for each in bombs() if options.only in each[0]]
    for name, make in names:
        photo = make()
        with Measured(pid) as cost, ThreadPoolExecutor(options.at_once) as threads:
            problems = list(threads.map(_sent, [client] * options.at_once, [photo] * options.at_once))
        cpu_s = cost.cpu_s / options.at_once
        worst_mb, worst_s = max(worst_mb, cost.most_mb), max(worst_s, cpu_s)
        print(f"{cost.most_mb:7.1f} MB {cpu_s:6.2f} s  {problems[0][:3]}  {name}", flush=True)
        if bad := [problem for problem in problems if not problem.isdigit()]:
            failures.append(f"{name}: {bad[0]}")
        if cost.most_mb > options.memory or cpu_s > options.cpu:
            failures.append(f"{name}: {cost.most_mb:.1f} MB, {cpu_s:.2f} s")
        if (answer := _sent(client, real)) != "200":
            failures.append(f"{name}: after it, a real photo gets {answer}")
    print(f"{len(names)} photos: at most {worst_mb:.1f} MB, and {worst_s:.2f} s of CPU time for one")
    return failures


def _sent(client: Client, photo: bytes) -> str:
    """Return the status of the answer to a photo, or what is wrong with the answer."""
    try:
        response = client.send("POST", "/predict", photo)
    except BROKEN as error:
        return f"no answer: {error!r}"
    busy = response.status == 503 and "Retry-After" in response.headers
    return "503" if busy else complaint(response) or str(response.status)


class Measured:
    """Measures memory and CPU time of a process and its descendants while the context lasts."""

    def __init__(self, pid: int) -> None:
        self._family = Family(pid)
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._watch)
        self.most_mb = self.cpu_s = 0.0

    def __enter__(self) -> "Measured":
        """Begin."""
        self._before = self._family.cpu_s()
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        """Compute `most_mb` and `cpu_s`."""
        self._stop.set()
        self._thread.join()
        self.cpu_s = self._family.cpu_s() - self._before

    def _watch(self) -> None:
        while not self._stop.is_set():
            self._family.cpu_s()  # a process that ends between two looks would not be counted
            self.most_mb = max(self.most_mb, self._family.memory_mb())
            time.sleep(_SAMPLE_S)


def main() -> int:
    """Run the command line; return the exit code."""
    parser = arguments.parser("hostile_photos", __doc__, "--only WebP")
    add = parser.add_argument
    add(
        "--memory",
        type=at_least(0),
        default=256,
        help="MB that the service may take (default: 256)",
    )
    add("--cpu", type=at_least(0), default=3, help="CPU seconds that a photo may take (default: 3)")
    add(
        "--at-once",
        type=whole_number(1, 1000),
        default=3,
        help="how often each photo is sent at once (default: 3)",
    )
    add("--only", default="", help="send only photos whose names contain this text (default: all)")
    return command.run_test(parser, attack, **render_settings())


def render_settings() -> dict[str, str]:
    """Return the limits that render.yaml sets, by the names of their settings."""
    (service,) = yaml.safe_load((ROOT / "render.yaml").read_text())["services"]
    variables = {variable["key"]: variable.get("value") for variable in service["envVars"]}
    return {name: value for name, value in variables.items() if value and name.startswith("MAX_")}


if __name__ == "__main__":
    sys.exit(main())
