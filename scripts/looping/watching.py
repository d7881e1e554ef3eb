"""Prometheus, Alertmanager and the relay to GitHub with this repository's configuration, in quick motion."""

import contextlib
import os
import re
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from monitoring.client import Prometheus
from scripts.common import monitoring
from scripts.common.process import ROOT, ProcessError, free_port

FACTOR, INTERVAL_FACTOR = 360, 15
"""Divisors of the durations in monitoring/, so that an hour takes 10 s, and of the time between scrapes."""
_PASSWORD = "of-the-relay-in-the-rehearsal"  # noqa: S105  (both ends are on this machine)
_QUERY_S, _START_S = 30, 60


@dataclass(frozen=True)
class Watch:
    """What watches the service.

    Attributes:
        url: of Prometheus.
        targets: file that names the addresses to scrape, for `--targets` of a deployment.
    """

    url: str
    targets: Path

    def firing(self, alert: str) -> bool:
        """Return whether an alert fires now; raises PrometheusError."""
        query = f'ALERTS{{alertname="{alert}",alertstate="firing"}}'
        return bool(Prometheus(self.url, "", _QUERY_S).at(query, time.time()))

    def value(self, query: str) -> float:
        """Return the only value of a query, 0 if there is none; raises PrometheusError."""
        series = Prometheus(self.url, "", _QUERY_S).at(query, time.time())
        return float(series[0][1][1]) if series else 0.0


@contextlib.contextmanager
def watching(folder: Path, github: Mapping[str, str]) -> Iterator[Watch]:
    """Run all of it.

    Args:
        folder: for configurations, data and logs.
        github: the variables that name the repository, with a token.

    Raises:
        ProcessError: something does not start.
    """
    for name in (
        "prometheus.yml",
        "alertmanager.yml",
        *(f"rules/{name}.yml" for name in ("alerts", "recording")),
    ):
        text = monitoring.faster((ROOT / "monitoring" / name).read_text("utf-8"), FACTOR, INTERVAL_FACTOR)
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text, "utf-8")
    targets = folder / "targets.json"
    targets.write_text("[]", "utf-8")
    with _relay(folder, github) as relay:
        config = folder / "alertmanager.yml"
        authorization = f"{{authorization: {{credentials: {_PASSWORD}}}}}"
        webhook = f"webhook_configs: [{{url: {relay}, http_config: {authorization}, send_resolved: false}}]"
        text = config.read_text("utf-8")
        text = re.sub(r"^  - name: ticket$", rf"\g<0>\n    {webhook}", text, flags=re.MULTILINE)
        config.write_text(text, "utf-8")
        with monitoring.alertmanager(config, folder) as alertmanager:
            config = folder / "prometheus.yml"
            text = config.read_text("utf-8").replace(
                "alertmanager:9093", alertmanager.removeprefix("http://")
            )
            files = f'file_sd_configs: [{{files: ["{targets}"], refresh_interval: 1s}}]'
            config.write_text(text.replace('static_configs: [{targets: ["app:8080"]}]', files), "utf-8")
            with monitoring.prometheus(config, folder) as prometheus:
                yield Watch(prometheus, targets)


@contextlib.contextmanager
def _relay(folder: Path, github: Mapping[str, str]) -> Iterator[str]:
    """Run the relay that starts training at GitHub; yield its URL."""
    address = f"127.0.0.1:{free_port()}"
    for name, secret in (("github_token", github["GITHUB_TOKEN"]), ("relay_token", _PASSWORD)):
        (folder / name).write_text(secret, "utf-8")
    env = {
        "RELAY_ADDRESS": address,
        "GITHUB_API_URL": github["GITHUB_API_URL"],
        "GITHUB_REPOSITORY": github["GITHUB_REPOSITORY"],
        "GITHUB_TOKEN_FILE": str(folder / "github_token"),
        "RELAY_TOKEN_FILE": str(folder / "relay_token"),
        "RELAY_STATE_FILE": str(folder / "last_dispatch"),
    }
    command = [sys.executable, str(ROOT / "monitoring" / "retrain_relay.py")]
    with (folder / "relay.log").open("wb") as log:
        process = subprocess.Popen(command, env=os.environ | env, stdout=log, stderr=log)  # noqa: S603
    try:
        _wait_until_listening(process, int(address.rpartition(":")[2]))
        yield f"http://{address}"
    finally:
        process.kill()
        process.wait()


def _wait_until_listening(process: "subprocess.Popen[bytes]", port: int) -> None:
    until = time.monotonic() + _START_S
    while time.monotonic() < until and process.poll() is None:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
            return
        time.sleep(0.05)
    raise ProcessError("the relay does not start")
