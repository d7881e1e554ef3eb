"""`docker compose --profile monitoring up`, except Grafana; test_dashboards.py runs its queries."""

import json
import time
import uuid
from pathlib import Path

import pytest
import yaml

from scripts.common.process import free_port
from tests.conftest import needs
from tests.deploy.test_compose import COMPOSE, Composed, compose
from tests.helpers import monitoring_tools as tools
from tests.helpers.container import TAG, engine, needs_container
from tests.helpers.paths import ROOT
from tests.helpers.waiting import until

RULES = list((ROOT / "monitoring" / "rules").iterdir())
PROGRAMS = {
    "prometheus": ["/usr/bin/prometheus"],
    "alertmanager": ["/usr/bin/prometheus-alertmanager", "/usr/share/prometheus/alertmanager"],
}
"""Paths of Debian's programs and of the files that they read."""


@pytest.fixture
def override(tmp_path: Path) -> Path:
    """Use this machine's programs in place of pinned images that are not available."""
    services = {}
    for name, paths in PROGRAMS.items():
        if not engine("images", "--quiet", COMPOSE["services"][name]["image"], check=False).strip():
            mounts = [f"{path}:{path}:ro" for path in paths]
            services[name] = {"image": "python:3.11-slim", "entrypoint": paths[:1], "volumes": mounts}
    file = tmp_path / "override.yml"
    file.write_text(yaml.safe_dump({"services": services}))
    return file


@needs_container
@needs("prometheus", "prometheus-alertmanager")
def test_all_but_grafana_find_each_other(image: str, override: Path) -> None:
    engine("tag", image, TAG)
    project = f"test-{uuid.uuid4().hex[:12]}"
    service, prometheus, alertmanager = Composed(free_port()), free_port(), free_port()
    ports = {"PORT": service.port, "PROMETHEUS_PORT": prometheus, "ALERTMANAGER_PORT": alertmanager}
    env = {name: str(port) for name, port in ports.items()}
    files = ("-f", "docker-compose.yml", "-f", str(override), "--profile", "monitoring")
    url = f"http://127.0.0.1:{prometheus}"
    try:
        service.started = time.perf_counter()
        compose(project, *files, "up", "--detach", "app", "prometheus", "alertmanager", **env)
        service.wait()
        until(lambda: tools.ready(url) and tools.ready(f"http://127.0.0.1:{alertmanager}"))
        until(lambda: tools.query(url, 'up{job="cats-vs-dogs", instance="app:8080"} == 1'))
        (discovered,) = tools.ask(f"{url}/api/v1/alertmanagers")["data"]["activeAlertmanagers"]
        assert discovered["url"] == "http://alertmanager:9093/api/v2/alerts"
        groups = tools.ask(f"{url}/api/v1/rules")["data"]["groups"]
        assert {group["file"] for group in groups} == {f"/etc/prometheus/rules/{file.name}" for file in RULES}
        until(lambda: tools.query(url, 'up{job="prometheus"} == 1 and on () up{job="alertmanager"} == 1'))
        assert not tools.query(url, 'ALERTS{alertname!~"ModelChanged|Watchdog", alertstate="firing"}')
        status = tools.ask(f"http://127.0.0.1:{alertmanager}/api/v2/status")
        assert "inhibit_rules" in status["config"]["original"]
        names = engine("ps", "--format", "{{.Names}}", "--filter", f"name={project}").split()
        assert len(names) == 3
        mounted = json.dumps([json.loads(engine("inspect", name))[0]["Mounts"] for name in names])
        for path in ("monitoring/prometheus.yml", "monitoring/rules", "monitoring/alertmanager.yml"):
            assert str(ROOT / path) in mounted
    finally:
        compose(project, *files, "down", "--volumes", "--timeout", "5", **env)
