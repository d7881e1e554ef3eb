"""Checks docker-compose.yml and the configuration files that it mounts."""

import json
import os
import shutil
import subprocess
import sys
import time
import uuid
from pathlib import Path

import pytest
import yaml

from app.settings import Settings
from app.telemetry.tracing import VARIABLES
from scripts.common.process import free_port
from tests.conftest import not_installed
from tests.helpers.container import ENGINE, TAG, engine, needs_container
from tests.helpers.paths import ROOT
from tests.helpers.service import Client
from tests.helpers.waiting import HANG_S
from tests.scripts.test_smoke_test import smoke_test

COMPOSE = yaml.safe_load((ROOT / "docker-compose.yml").read_text())
PODMAN_COMPOSE = (str(Path(sys.executable).with_name("podman-compose")), "--in-pod", "0")


def compose(project: str, *arguments: str, **env: str) -> str:
    command = ["docker", "compose"] if ENGINE == "docker" else [*PODMAN_COMPOSE]
    done = subprocess.run(
        [*command, "-p", project, *arguments],
        cwd=ROOT,
        env=os.environ | {"BUILDAH_FORMAT": "docker", "IMAGE": TAG} | env,
        capture_output=True,
        text=True,
        timeout=HANG_S,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


class Composed(Client):
    def ended(self) -> str | None:
        return None


@needs_container
def test_the_app_alone(image: str) -> None:
    engine("tag", image, TAG)  # another build may have taken the tag since
    service, project = Composed(free_port()), f"test-{uuid.uuid4().hex[:12]}"
    env = {"PORT": str(service.port), "MODEL_URL": "file:///srv/app/default/model.pt", "LOG_FORMAT": "text"}
    service.started = time.perf_counter()
    try:
        compose(project, "up", "--detach", **env)
        service.wait()
        code, _, output = smoke_test(f"http://127.0.0.1:{service.port}")
        assert code == 0, output
        names = engine("ps", "--format", "{{.Names}}", "--filter", f"name={project}").split()
        assert len(names) == 1  # none of the monitoring profile
        settings = json.loads(engine("inspect", "--format", "{{json .Config.Env}}", names[0]))
        assert {"MODEL_URL=file:///srv/app/default/model.pt", "LOG_FORMAT=text"} <= set(settings)
        status = engine("exec", names[0], "cat", "/proc/1/status")
        assert "NoNewPrivs:\t1\n" in status
        assert "CapBnd:\t0000000000000000\n" in status
        engine("exec", names[0], "sh", "-c", "! touch /srv/x 2>/dev/null && touch /cache/x")
    finally:
        compose(project, "down", "--volumes", "--timeout", "5", **env)


def test_every_service_is_bound_to_this_machine_and_hardened() -> None:
    for name, service in COMPOSE["services"].items():
        assert all(port.startswith("${BIND:-127.0.0.1}:") for port in service.get("ports", []))
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        if name == "retrain-relay":
            assert service["profiles"] == ["retrain"]
            assert service["image"] == COMPOSE["services"]["app"]["image"]
            assert "ports" not in service
        elif name != "app":
            assert service["profiles"] == ["monitoring"]
            assert service["image"].rpartition(":")[2][-1].isdigit()  # an exact version


def test_the_app_has_time_to_drain() -> None:
    app = COMPOSE["services"]["app"]
    assert int(app["stop_grace_period"].removesuffix("s")) > Settings.drain_seconds
    assert app["read_only"] is True


def test_every_setting_is_passed_on() -> None:
    settings = {name.upper() for name in Settings.__dataclass_fields__} - {"HOST", "PORT", "MODEL_CACHE_DIR"}
    settings |= set(VARIABLES)
    passed = set(COMPOSE["services"]["app"]["environment"])
    assert passed == settings, "docker-compose.yml: services.app.environment must list exactly the settings"
    command = ["make", "-n", "-B", "run-image", "CONTAINER=docker"]
    env = {"PATH": os.environ["PATH"]} | dict.fromkeys(settings, "x")
    recipe = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=True).stdout
    assert settings <= set(recipe.split()), "run `make docs`: the Makefile reads docs/settings.md"


def test_what_is_mounted_is_there() -> None:
    mounts = [mount for service in COMPOSE["services"].values() for mount in service["volumes"]]
    for name in ("prometheus.yml", "prometheus-public.yml", "prometheus-push.yml"):
        files = [mount.replace("${PROMETHEUS_CONFIG:-prometheus.yml}", name) for mount in mounts]
        paths = [file.partition(":")[0] for file in files if file.startswith("./")]
        assert f"./monitoring/{name}" in paths
        assert all((ROOT / path).exists() for path in paths)


@pytest.mark.parametrize(
    ("tool", "command", "file"),
    [
        ("promtool", ["check", "config"], "prometheus.yml"),
        ("amtool", ["check-config"], "alertmanager.yml"),
    ],
)
def test_configuration_of_the_monitoring(tool: str, command: list[str], file: str) -> None:
    if not shutil.which(tool):
        pytest.skip(not_installed(tool))
    done = subprocess.run(
        [tool, *command, ROOT / "monitoring" / file], capture_output=True, text=True, timeout=HANG_S
    )
    assert done.returncode == 0, done.stdout + done.stderr
