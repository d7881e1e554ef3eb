"""Prometheus, Alertmanager and Pushgateway as processes of this machine, in quick motion if wanted."""

import contextlib
import os
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

from scripts.common.process import free_port, wait_until_ready

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WINDOW = re.compile(r"(\[|\boffset |\b(?:for|group_wait|group_interval|repeat_interval): )(\d+)([smhd])\b")
_INTERVAL = re.compile(r"(\b(?:scrape_interval|evaluation_interval): )(\d+)([smhd])\b")


def seconds(duration: str) -> int:
    """Return the seconds of a duration of Prometheus, such as `5m`."""
    return int(duration[:-1]) * _SECONDS[duration[-1]]


def faster(text: str, factor: float, interval_factor: float) -> str:
    """Return a file of rules or a configuration in quick motion.

    Args:
        text: of the file.
        factor: divides the durations in rules (`[1h]`, `offset 1h`, `for: 2m`) and in routes of Alertmanager;
            the names of rules, such as `rate1h`, stay.
        interval_factor: divides the time between two scrapes, and between two evaluations.
    """

    def divide(found: re.Match[str], by: float) -> str:
        return f"{found[1]}{max(1, round(1000 * seconds(found[2] + found[3]) / by))}ms"

    text = _WINDOW.sub(lambda found: divide(found, factor), text)
    return _INTERVAL.sub(lambda found: divide(found, interval_factor), text)


@contextlib.contextmanager
def process(command: list[str], url: str, log: Path, **env: str) -> Iterator[str]:
    """Run a server of this kind until it is no longer needed; yield its URL once it is ready.

    Raises:
        ProcessError: it does not start; the message has the end of its log.
    """
    with log.open("wb") as file:
        running = subprocess.Popen(command, stdout=file, stderr=file, env=os.environ | env)  # noqa: S603
    try:
        wait_until_ready(running, f"{url}/-/ready", log)
        yield url
    finally:
        running.kill()
        running.wait()


def prometheus(config: Path, folder: Path, **env: str) -> contextlib.AbstractContextManager[str]:
    """Run Prometheus; yield its URL.

    Args:
        config: its configuration, in which localhost:9090 is replaced by its own address.
        folder: for its data and its log.
        env: its environment.

    Raises:
        ProcessError: it does not start.
    """
    address = f"127.0.0.1:{free_port()}"
    config.write_text(config.read_text("utf-8").replace("localhost:9090", address), "utf-8")
    command = [
        "prometheus",
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'prometheus'}",
        f"--web.listen-address={address}",
        # It discovers Alertmanager after 5 s. Alerts from before are sent again, by default after a minute.
        "--rules.alert.resend-delay=1s",
        "--log.level=warn",
    ]
    return process(command, f"http://{address}", folder / "prometheus.log", **env)


def pushgateway(folder: Path) -> contextlib.AbstractContextManager[str]:
    """Run a Pushgateway, whose log goes into the folder; yield its URL."""
    address = f"127.0.0.1:{free_port()}"
    command = ["prometheus-pushgateway", f"--web.listen-address={address}"]
    return process(command, f"http://{address}", folder / "pushgateway.log")


def alertmanager(config: Path, folder: Path) -> contextlib.AbstractContextManager[str]:
    """Run a single Alertmanager with a configuration; what it keeps goes into the folder; yield its URL."""
    address = f"127.0.0.1:{free_port()}"
    command = [
        "prometheus-alertmanager",
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={address}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    return process(command, f"http://{address}", folder / "alertmanager.log")
