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

from scripts.common.monitoring import alertmanager as run_alertmanager
from scripts.common.monitoring import faster as in_quick_motion
from scripts.common.monitoring import prometheus as run_prometheus
from scripts.common.monitoring import seconds
from tests.helpers import monitoring_tools as tools
from tests.helpers.endpoint import Reply, Sent, endpoint
from tests.helpers.paths import ROOT
from tests.helpers.service import Service, running
from tests.helpers.waiting import HANG_S

FACTOR, INTERVAL_FACTOR = 180, 30
INTERVAL_S = 15 / INTERVAL_FACTOR


def scaled(duration: str) -> float:
    """Seconds that a duration of the rules, such as `5m`, takes here."""
    return seconds(duration) / FACTOR


def faster(text: str) -> str:
    """A file of rules or a configuration in quick motion."""
    return in_quick_motion(text, FACTOR, INTERVAL_FACTOR)


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
    def traffic(self, photos: Path, mode: str = "normal", *, rate: float) -> Iterator[None]:
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
        run_alertmanager(receiving(folder / "alertmanager.yml", receiver), folder) as alertmanager,
    ):
        service.wait()
        config = (folder / "prometheus.yml").read_text()
        for name, address in (("app:8080", f"127.0.0.1:{service.port}"), ("alertmanager:9093", alertmanager)):
            assert name in config
            config = config.replace(name, address.removeprefix("http://"))
        (folder / "prometheus.yml").write_text(config)
        with run_prometheus(folder / "prometheus.yml", folder) as prometheus:
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
