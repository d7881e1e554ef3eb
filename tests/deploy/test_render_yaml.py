"""Checks render.yaml against Render's Blueprint reference, whose schema is not available offline."""

import re
import shutil
import subprocess
from pathlib import Path

import pytest
import yaml

from app.settings import Settings, SettingsError
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S

# Fields of a web service that pulls an image, without those of services that build from a repository.
FIELDS = {
    "type", "name", "runtime", "image", "plan", "region", "autoDeployTrigger", "healthCheckPath", "envVars",
    "dockerCommand", "preDeployCommand", "numInstances", "scaling", "domains", "disk", "previews",
    "maxShutdownDelaySeconds", "ipAllowList", "renderSubdomainPolicy", "maintenanceMode",
}  # fmt: skip
NOT_ON_FREE = {"maxShutdownDelaySeconds", "preDeployCommand", "scaling", "disk"}
REGIONS = {"oregon", "ohio", "virginia", "frankfurt", "singapore"}
PLANS = {"free", "starter", "standard", "pro", "pro plus", "pro max", "pro ultra"}
DEFAULT_SHUTDOWN_S = 30
FREE_MB = 512


@pytest.fixture(scope="module")
def service() -> dict:
    blueprint = yaml.safe_load((ROOT / "render.yaml").read_text())
    assert set(blueprint) == {"services"}
    (only,) = blueprint["services"]
    return only


@pytest.fixture(scope="module")
def env(service) -> dict[str, str]:
    return {variable["key"]: variable.get("value", "") for variable in service["envVars"]}


def test_fields_of_an_image_backed_web_service(service) -> None:
    assert set(service) <= FIELDS
    assert service["type"] == "web"
    assert service["runtime"] == "image"  # not its deprecated name, env
    assert service["region"] in REGIONS
    assert service["plan"] in PLANS
    assert service["autoDeployTrigger"] == "off"  # a string: YAML 1.1 reads a bare off as false
    if service["plan"] == "free":
        assert not NOT_ON_FREE & set(service)
        assert service.get("numInstances", 1) == 1
    assert 1 <= service.get("maxShutdownDelaySeconds", DEFAULT_SHUTDOWN_S) <= 300
    assert re.fullmatch(r"[a-z0-9](-?[a-z0-9])*", service["name"])  # it becomes a host name


def test_image(service) -> None:
    assert set(service["image"]) <= {"url", "creds"}
    assert re.fullmatch(
        r"[\w.-]+\.[a-z]+/[\w.-]+/[\w.-]+(:[\w.-]+|@sha256:[0-9a-f]{64})", service["image"]["url"]
    )
    if creds := service["image"].get("creds"):
        assert set(creds) == {"fromRegistryCreds"}
        assert set(creds["fromRegistryCreds"]) == {"name"}


def test_each_variable_has_one_source_and_is_a_setting_of_the_service(service) -> None:
    settings = {name.upper() for name in Settings.__dataclass_fields__}
    keys = [variable["key"] for variable in service["envVars"]]
    assert len(keys) == len(set(keys))
    for variable in service["envVars"]:
        (source,) = set(variable) - {"key"}
        assert source in {"value", "sync", "generateValue"}
        if source == "value":
            assert isinstance(variable["value"], str)
        else:
            assert variable[source] is (
                source == "generateValue"
            )  # sync: true is the default and does not ask for a value
        assert variable["key"] in settings


def test_no_secret_has_a_value(service) -> None:
    secret = {variable["key"] for variable in service["envVars"] if variable.get("sync") is False}
    assert secret == {"API_KEYS", "METRICS_TOKEN", "MODEL_TOKEN"}


def test_the_service_takes_the_values(env) -> None:
    settings = Settings.from_env(env)
    assert settings.model_url == env["MODEL_URL"]
    assert settings.api_keys == ()  # left empty when the Blueprint was created
    with pytest.raises(SettingsError):
        Settings.from_env(env | {"DRAIN_SECONDS": "-1"})


def test_drain_and_memory_fit_the_plan(service, env) -> None:
    settings = Settings.from_env(env)
    assert settings.drain_seconds < service.get("maxShutdownDelaySeconds", DEFAULT_SHUTDOWN_S)
    if service["plan"] == "free":
        worst = settings.max_concurrency * settings.max_photo_bytes / 1e6
        assert worst + 100 < FREE_MB / 2  # docs/performance.md: 95 MB


def test_health_check_is_readiness(service) -> None:
    document = yaml.safe_load((ROOT / "app" / "openapi.yaml").read_text())
    assert service["healthCheckPath"] == "/ready"
    assert {"200", "503"} <= set(document["paths"][service["healthCheckPath"]]["get"]["responses"])


def test_a_fork_puts_its_name_in(tmp_path) -> None:
    for folder in ("deploy", "monitoring"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    (tmp_path / "scripts").mkdir()
    script = shutil.copy(ROOT / "scripts" / "set_owner.sh", tmp_path / "scripts")
    named = [
        path for kind in ("yaml", "yml", "json", "py") for path in (ROOT / "monitoring").rglob(f"*.{kind}")
    ]
    files = [
        Path("render.yaml"),
        *(path.relative_to(ROOT) for path in [*(ROOT / "deploy").rglob("*.yaml"), *named]),
    ]

    def run(*command: str, code: int = 0) -> None:
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, timeout=HANG_S)
        assert done.returncode == code, done.stderr

    def changes() -> set[str]:
        return {
            new.strip().removeprefix("- ")
            for file in files
            for old, new in zip(lines(ROOT / file), lines(tmp_path / file), strict=True)
            if old != new
        }

    run("git", "init", "-q")
    run("git", "remote", "add", "origin", "/some/folder/of/github.com.git")
    run(script, code=1)
    for remote in ("https://github.com/Ann-Lee/Pets.git", "git@github.com:Ann-Lee/Pets"):
        run("git", "remote", "set-url", "origin", remote)
        shutil.copy(ROOT / "render.yaml", tmp_path)
        run(script)
        run(script)
        changed = changes()
        links = {line for line in changed if "RUNBOOK.md" in line}
        assert len(links) > 20
        assert all("https://github.com/Ann-Lee/Pets/blob/main/docs/RUNBOOK.md" in line for line in links)
        assert changed - links == {
            "url: ghcr.io/ann-lee/pets:main",
            "newName: ghcr.io/ann-lee/pets",
            "image: REGION-docker.pkg.dev/PROJECT/ghcr/ann-lee/pets:main",
            "image: ghcr.io/ann-lee/pets:main",
            "reference: ghcr.io/ann-lee/pets:model-VERSION",
            "#   printf 'FROM scratch\\nCOPY model.pt /model.pt\\n' | docker build "
            "--tag ghcr.io/ann-lee/pets:model-VERSION --file - models",
            '{name: MODEL_URL, value: "https://github.com/Ann-Lee/Pets/releases/latest/download/model.pt"}',
            "value: https://github.com/Ann-Lee/Pets/releases/latest/download/model.pt",
            "MODEL_URL=https://github.com/Ann-Lee/Pets/releases/latest/download/model.pt",
        }
    run(script, "$(touch x)/y", code=1)
    run(script, "new/name")
    assert not [line for line in changes() if "pets" in line.lower()]


def lines(file: Path) -> list[str]:
    return file.read_text().splitlines()
