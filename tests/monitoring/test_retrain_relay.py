"""From an alert to retraining: the real Alertmanager, the relay as a process, and a stand-in for GitHub."""

import contextlib
import datetime
import json
import os
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from monitoring import retrain_relay
from scripts.common.monitoring import alertmanager
from scripts.common.process import free_port
from scripts.standins import github as standin
from scripts.standins.github import REPOSITORY, TOKEN, Fault
from tests.conftest import needs
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S, until

PASSWORD = "of-the-relay-0123456789"
WORKFLOW = yaml.load((ROOT / ".github" / "workflows" / "retrain.yml").read_text(), yaml.BaseLoader)
Settings = dict[str, str]


@pytest.fixture
def github() -> Iterator[standin.GitHub]:
    with standin.GitHub().serving() as github:
        yield github


@pytest.fixture
def settings(tmp_path: Path, github: standin.GitHub) -> Settings:
    """The environment of a relay."""
    (tmp_path / "github_token").write_text(f"{TOKEN}\n")
    (tmp_path / "relay_token").write_text(f"{PASSWORD}\n")
    return {
        "GITHUB_API_URL": github.url,
        "GITHUB_REPOSITORY": REPOSITORY,
        "GITHUB_TOKEN_FILE": str(tmp_path / "github_token"),
        "RELAY_TOKEN_FILE": str(tmp_path / "relay_token"),
        "RELAY_STATE_FILE": str(tmp_path / "last"),
    }


@contextlib.contextmanager
def relaying(settings: Settings) -> Iterator[str]:
    """Run the relay as its container does; yield its URL."""
    address = f"127.0.0.1:{free_port()}"
    command = [sys.executable, "-I", "-S", ROOT / "monitoring" / "retrain_relay.py"]
    env = {"PATH": os.environ["PATH"], "RELAY_ADDRESS": address} | settings
    process = subprocess.Popen(command, env=env, stderr=subprocess.PIPE)
    try:
        until(lambda: send(f"http://{address}", None)[0])
        yield f"http://{address}"
    finally:
        process.kill()
        process.communicate()


def send(url: str, body: Any, password: str = PASSWORD) -> tuple[int, str]:
    """Send a notification; return status and text. Status 0: nobody listens yet."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode()
    request = urllib.request.Request(url, data, {"Authorization": f"Bearer {password}"})
    try:
        with urllib.request.urlopen(request, timeout=HANG_S) as answer:
            return answer.status, answer.read().decode()
    except urllib.error.HTTPError as error:
        with error:
            return error.code, error.read().decode()
    except OSError:
        return 0, ""


def notification(*names: str, status: str = "firing") -> dict[str, Any]:
    return {"version": "4", "alerts": [{"status": status, "labels": {"alertname": name}} for name in names]}


@needs("prometheus-alertmanager")
def test_an_alert_starts_one_training(tmp_path: Path, github: standin.GitHub, settings: Settings) -> None:
    """With the receiver and the route that docs/monitoring.md names."""
    text = (ROOT / "docs" / "monitoring.md").read_text()
    added = yaml.safe_load(text.partition("<!-- retrain -->\n")[2].partition("\n\n")[0])
    config = yaml.safe_load((ROOT / "monitoring" / "alertmanager.yml").read_text())
    with relaying(settings) as url:
        (webhook,) = added["receivers"][0]["webhook_configs"]
        assert webhook["url"] == "http://retrain-relay:9095/"
        webhook["url"] = url
        credentials = webhook["http_config"]["authorization"]
        assert credentials["credentials_file"] == "/etc/alertmanager/secrets/relay_token"
        credentials["credentials_file"] = settings["RELAY_TOKEN_FILE"]
        route, usual = added["route"]["routes"]
        config["receivers"] += added["receivers"]
        config["route"]["routes"] += [route | {"group_wait": "10ms", "group_interval": "100ms"}, usual]
        (tmp_path / "alertmanager.yml").write_text(yaml.safe_dump(config))
        told = ["amtool", "config", "routes", "test", f"--config.file={tmp_path / 'alertmanager.yml'}"]
        for name in ("ModelDrift", "LiveAccuracyLow", "UnknownShareHigh"):
            alert = [f"alertname={name}", "severity=ticket"]
            assert subprocess.check_output([*told, *alert], text=True).strip() == "retrain,ticket"
        with alertmanager(tmp_path / "alertmanager.yml", tmp_path) as manager:
            labels = {"job": "cats-vs-dogs", "severity": "ticket"}
            now = datetime.datetime.now(datetime.UTC).isoformat()
            for name in ("Saturated", "ModelDrift", "LiveAccuracyLow"):
                alerts = [{"labels": {"alertname": name} | labels, "startsAt": now}]
                headers = {"Content-Type": "application/json"}
                request = urllib.request.Request(
                    f"{manager}/api/v2/alerts", json.dumps(alerts).encode(), headers
                )
                urllib.request.urlopen(request, timeout=HANG_S).close()
            until(lambda: github.dispatched)
            assert send(url, notification("ModelDrift"))[1].startswith("already sent")
    ((kind, payload),) = github.dispatched
    assert [kind] == WORKFLOW["on"]["repository_dispatch"]["types"]
    assert payload in ({"alerts": ["ModelDrift"]}, {"alerts": ["LiveAccuracyLow"]})


def test_one_event_per_period_even_after_a_restart(github: standin.GitHub, settings: Settings) -> None:
    for _ in range(2):
        with relaying(settings) as url:
            for _ in range(3):
                assert send(url, notification("ModelDrift"))[0] == 200
    assert github.dispatched == [("retrain", {"alerts": ["ModelDrift"]})]
    last = Path(settings["RELAY_STATE_FILE"])
    os.utime(last, (0, 0))  # long ago
    with relaying(settings) as url:
        assert send(url, notification("b", "a", "a")) == (200, "sent for a, b\n")
    assert github.dispatched[1:] == [("retrain", {"alerts": ["a", "b"]})]


def test_a_failure_of_github_is_told_and_does_not_count(github: standin.GitHub, settings: Settings) -> None:
    """Alertmanager sends a notification again after 502."""
    with relaying(settings) as url:
        github.hook = lambda _: Fault(503)
        assert send(url, notification("ModelDrift")) == (502, "GitHub answers 503 instead of 204\n")
        github.hook = lambda _: Fault()
        assert send(url, notification("ModelDrift"))[0] == 502
        github.hook = lambda _: None
        assert send(url, notification("ModelDrift"))[0] == 200
    assert len(github.dispatched) == 1


def test_without_its_state_nothing_is_sent(
    github: standin.GitHub, settings: Settings, tmp_path: Path
) -> None:
    with relaying(settings | {"RELAY_STATE_FILE": str(tmp_path / "missing" / "last")}) as url:
        assert [send(url, notification("ModelDrift"))[0] for _ in range(3)] == [502] * 3
    assert not github.dispatched


def test_hostile_requests_start_nothing(github: standin.GitHub, settings: Settings) -> None:
    bodies: list[tuple[Any, int]] = [
        (notification("ModelDrift", status="resolved"), 200),
        (notification("<script>", "a b"), 200),
        ([], 400),
        ({"alerts": "all"}, 400),
        ({"alerts": [{}]}, 400),
        (b"\xff", 400),
        (b"[" * 100_000, 400),
        (b" " * ((1 << 20) + 1), 413),
    ]
    with relaying(settings) as url:
        for password in ("wrong", "", "of-the-relay-012345678\xe9"):
            assert send(url, notification("ModelDrift"), password)[0] == 401
        for body, status in bodies:
            assert send(url, body)[0] in (status, 0)  # 0: it hangs up before the body is complete
        assert not github.dispatched
        assert send(url, notification("ModelDrift"))[0] == 200
    assert len(github.dispatched) == 1


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("GITHUB_REPOSITORY", "acme"),
        ("GITHUB_API_URL", "http://github.example.org"),
        ("GITHUB_TOKEN_FILE", "/does/not/exist"),
        ("RELAY_TOKEN_FILE", ""),
        ("RELAY_STATE_FILE", ""),
        ("RELAY_HOURS", "often"),
    ],
)
def test_bad_settings_are_one_line(settings: Settings, name: str, value: str) -> None:
    retrain_relay.from_environment(settings)
    with pytest.raises(retrain_relay.RelayError, match=name):
        retrain_relay.from_environment(settings | {name: value})


def test_a_short_token_is_rejected(settings: Settings, tmp_path: Path) -> None:
    (tmp_path / "relay_token").write_text("short")
    with pytest.raises(retrain_relay.RelayError, match="at least 16 characters"):
        retrain_relay.from_environment(settings)
