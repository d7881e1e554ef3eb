"""The service, Prometheus and Alertmanager with this repository's configuration, in quick motion.

One substitution makes it quick: every duration in the rules (`[1h]`, `offset 1h`, `for: 2m`) and in routes of
Alertmanager is divided by FACTOR, so that a day passes in eight minutes; the names of rules, as `rate1h`,
stay. Scrapes and evaluations, 15 s apart, come only INTERVAL_FACTOR times as often: any more would measure
this machine's hiccups, and the shortest window still holds three.
"""

import contextlib
import json
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.helpers import monitoring_tools as tools
from tests.helpers.endpoint import Reply, Sent, endpoint
from tests.helpers.paths import ROOT
from tests.helpers.service import Service, running
from tests.helpers.waiting import HANG_S

FACTOR, INTERVAL_FACTOR = 180, 30
INTERVAL_S = 15 / INTERVAL_FACTOR

_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WINDOW = re.compile(r"(\[|\boffset |\b(?:for|group_wait|group_interval|repeat_interval): )(\d+)([smhd])\b")
_INTERVAL = re.compile(r"(\b(?:scrape_interval|evaluation_interval): )(\d+)([smhd])\b")


def scaled(duration: str) -> float:
    """Seconds that a duration of the rules, such as `5m`, takes here."""
    return int(duration[:-1]) * _SECONDS[duration[-1]] / FACTOR


def faster(text: str) -> str:
    """A file of rules or a configuration with its durations divided."""

    def divide(found: re.Match[str], factor: int) -> str:
        return f"{found[1]}{max(1, round(1000 * int(found[2]) * _SECONDS[found[3]] / factor))}ms"

    text = _WINDOW.sub(lambda found: divide(found, FACTOR), text)
    return _INTERVAL.sub(lambda found: divide(found, INTERVAL_FACTOR), text)


@dataclass
class Stack:
    """What runs: the service, and the URLs of those that watch it."""

    service: Service
    prometheus: str
    alertmanager: str
    notifications: list[Sent]
    """What Alertmanager has sent, to the path of each receiver's name."""

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.service.port}"

    def alerts(self) -> list[dict[str, str]]:
        """Labels of the alerts that Alertmanager tells somebody of, except inhibited ones and Watchdog."""
        told = tools.ask(f"{self.alertmanager}/api/v2/alerts", inhibited="false")
        return [alert["labels"] for alert in told if alert["labels"]["alertname"] != "Watchdog"]

    def notified(self, receiver: str) -> list[dict[str, Any]]:
        """Alerts that a receiver was told of, in every notification again."""
        bodies = [json.loads(sent.body) for sent in self.notifications if sent.path == f"/{receiver}"]
        return [alert for body in bodies for alert in body["alerts"]]

    @contextlib.contextmanager
    def traffic(self, photos: Path, mode: str = "normal", rate: float = 15) -> Iterator[None]:
        """Let `scripts/traffic.py` send such photos meanwhile."""
        options = ["--mode", mode, "--rate", str(rate), "--seconds", "inf", "--feedback", "0.1"]
        command = [sys.executable, "-m", "scripts.traffic", self.url, str(photos), *options]
        sending = subprocess.Popen(command, stdout=subprocess.DEVNULL)
        try:
            yield
            assert sending.poll() is None, "the traffic has ended"
        finally:
            sending.send_signal(signal.SIGINT)
            sending.wait(HANG_S)


@contextlib.contextmanager
def stack(folder: Path, **env: str) -> Iterator[Stack]:
    """Run all of it; `env` is the service's."""
    (folder / "rules").mkdir()
    for file in (ROOT / "monitoring" / "rules").glob("*.yml"):
        (folder / "rules" / file.name).write_text(faster(file.read_text()))
    for name in ("alertmanager.yml", "prometheus.yml"):
        (folder / name).write_text(faster((ROOT / "monitoring" / name).read_text()))
    with (
        endpoint(lambda _: Reply()) as (receiver, notifications),
        running(LOG_LEVEL="error", **env) as service,
        tools.alertmanager(receiving(folder / "alertmanager.yml", receiver), folder) as alertmanager,
    ):
        service.wait()
        config = (folder / "prometheus.yml").read_text()
        for name, address in (("app:8080", f"127.0.0.1:{service.port}"), ("alertmanager:9093", alertmanager)):
            assert name in config
            config = config.replace(name, address.removeprefix("http://"))
        (folder / "prometheus.yml").write_text(config)
        with tools.prometheus(folder / "prometheus.yml", folder) as prometheus:
            yield Stack(service, prometheus, alertmanager, notifications)


def receiving(config: Path, url: str) -> Path:
    """Add a webhook to each receiver of Alertmanager, as its comments say."""
    text = config.read_text()
    text, count = re.subn(
        r"^  - name: (\w+)$",
        rf"  - name: \1\n    webhook_configs: [{{url: {url}/\1, send_resolved: false}}]",
        text,
        flags=re.MULTILINE,
    )
    assert count == 4
    config.write_text(text)
    return config
