"""Who is notified of which alert, according to Alertmanager itself."""

import datetime
import json
import subprocess
import urllib.request

import pytest
import yaml

from scripts.common.monitoring import alertmanager
from tests.conftest import needs
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S, until

CONFIG = ROOT / "monitoring" / "alertmanager.yml"

pytestmark = needs("prometheus-alertmanager", "amtool")


def amtool(*arguments: object) -> str:
    command = ["amtool", *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def test_the_configuration_is_valid():
    assert "5 inhibit rules" in amtool("check-config", CONFIG)


@pytest.mark.parametrize("severity", ["page", "ticket", "info"])
def test_each_severity_has_a_receiver(severity):
    labels = ["alertname=ServiceDown", "job=cats-vs-dogs", f"severity={severity}"]
    assert amtool("config", "routes", "test", f"--config.file={CONFIG}", *labels).strip() == severity


def test_the_watchdog_has_a_receiver_of_its_own_and_is_never_silent():
    """It is repeated every few minutes, and not only once a day as other alerts."""
    labels = ["alertname=Watchdog", "severity=none"]
    assert amtool("config", "routes", "test", f"--config.file={CONFIG}", *labels).strip() == "watchdog"
    (route,) = [
        r for r in yaml.safe_load(CONFIG.read_text())["route"]["routes"] if r["receiver"] == "watchdog"
    ]
    assert (route["group_interval"], route["repeat_interval"]) == ("1m", "5m")


def test_redundant_alerts_are_inhibited(tmp_path):
    def alert(name: str, severity: str, job: str = "a", **labels: str) -> dict[str, object]:
        now = datetime.datetime.now(datetime.UTC).isoformat()
        return {"labels": {"alertname": name, "severity": severity, "job": job} | labels, "startsAt": now}

    with alertmanager(CONFIG, tmp_path) as url:

        def send(*alerts: dict[str, object]) -> None:
            headers = {"Content-Type": "application/json"}
            request = urllib.request.Request(f"{url}/api/v2/alerts", json.dumps(alerts).encode(), headers)
            with urllib.request.urlopen(request, timeout=HANG_S):
                pass

        def labels() -> list[dict[str, str]]:
            with urllib.request.urlopen(f"{url}/api/v2/alerts?inhibited=false", timeout=HANG_S) as answer:
                return [alert["labels"] for alert in json.load(answer)]

        def notified() -> set[tuple[str, str, str]]:
            return {(alert["alertname"], alert["severity"], alert["job"]) for alert in labels()}

        def instances(name: str) -> set[str]:
            return {alert.get("instance", "") for alert in labels() if alert["alertname"] == name}

        send(
            alert("PredictRefusing", "page"),
            alert("PredictRefusing", "ticket"),
            alert("PredictFailing", "ticket"),
            alert("Saturated", "ticket"),
            alert("Saturated", "ticket", "b"),
            alert("PredictFailing", "ticket", "b"),
            alert("PredictRefusing", "ticket", "c"),
        )
        expected = {
            ("PredictRefusing", "page", "a"),
            ("PredictFailing", "ticket", "a"),
            ("Saturated", "ticket", "b"),
            ("PredictFailing", "ticket", "b"),
            ("PredictRefusing", "ticket", "c"),
        }
        until(lambda: notified() == expected)
        # Two of several instances are down: what is about them is silent, what is about all or others is not.
        send(
            alert("ServiceDown", "page", instance="1"),
            alert("ServiceDown", "page", instance="2"),
            alert("MemoryNearLimit", "page", instance="1"),
            alert("ModelMissing", "page", instance="2"),
            alert("ModelDownloadFailing", "ticket", instance="3"),
        )
        expected |= {("ServiceDown", "page", "a"), ("ModelDownloadFailing", "ticket", "a")}
        until(lambda: notified() == expected)
        assert instances("ServiceDown") == {"1", "2"}
        # None is up.
        send(alert("ServiceDown", "page"))
        expected = {fact for fact in expected if fact[2] != "a"} | {("ServiceDown", "page", "a")}
        until(lambda: notified() == expected)
        assert instances("ServiceDown") == {""}
