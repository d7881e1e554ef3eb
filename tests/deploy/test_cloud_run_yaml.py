"""Checks deploy/cloudrun/service.yaml against Cloud Run's YAML reference and container contract."""

import re

import pytest
import yaml

from app.settings import Settings
from tests.helpers.paths import ROOT

# Cloud Run's annotations that the reference lists for a service and for a revision.
SERVICE_ANNOTATIONS = {
    "run.googleapis.com/ingress", "run.googleapis.com/invoker-iam-disabled", "run.googleapis.com/minScale",
    "run.googleapis.com/maxScale", "run.googleapis.com/launch-stage", "run.googleapis.com/description",
}  # fmt: skip
REVISION_ANNOTATIONS = {
    "autoscaling.knative.dev/minScale", "autoscaling.knative.dev/maxScale",
    "run.googleapis.com/startup-cpu-boost", "run.googleapis.com/cpu-throttling",
    "run.googleapis.com/execution-environment",
}  # fmt: skip
RESERVED = {"PORT", "K_SERVICE", "K_REVISION", "K_CONFIGURATION"}  # Cloud Run sets these itself
KILLED_AFTER_S = 10
STARTUP_S = 240


@pytest.fixture(scope="module")
def service() -> dict:
    return yaml.safe_load((ROOT / "deploy" / "cloudrun" / "service.yaml").read_text())


@pytest.fixture(scope="module")
def revision(service) -> dict:
    return service["spec"]["template"]


@pytest.fixture(scope="module")
def container(revision) -> dict:
    (only,) = revision["spec"]["containers"]
    return only


@pytest.fixture(scope="module")
def settings(container) -> Settings:
    return Settings.from_env({variable["name"]: variable["value"] for variable in container["env"]})


def test_service(service, revision) -> None:
    assert (service["apiVersion"], service["kind"]) == ("serving.knative.dev/v1", "Service")
    assert set(service) == {"apiVersion", "kind", "metadata", "spec"}
    assert set(service["spec"]) == {"template", "traffic"}
    assert re.fullmatch(r"[a-z]([a-z0-9-]{0,47}[a-z0-9])?", service["metadata"]["name"])
    assert set(service["metadata"]["annotations"]) <= SERVICE_ANNOTATIONS
    assert set(revision["metadata"]) == {"annotations"}  # no name: a revision's name can be used only once
    assert set(revision["metadata"]["annotations"]) <= REVISION_ANNOTATIONS
    for annotations in (service["metadata"]["annotations"], revision["metadata"]["annotations"]):
        assert all(isinstance(value, str) for value in annotations.values())
    assert sum(part["percent"] for part in service["spec"]["traffic"]) == 100


def test_revision(revision, settings) -> None:
    scale = {name.rpartition("/")[2]: value for name, value in revision["metadata"]["annotations"].items()}
    assert 0 <= int(scale["minScale"]) < int(scale["maxScale"])
    spec = revision["spec"]
    assert set(spec) == {"containerConcurrency", "timeoutSeconds", "containers"}
    assert 1 <= spec["containerConcurrency"] <= 1000
    assert spec["containerConcurrency"] < 1 + settings.max_queue
    assert 2 * settings.request_timeout_s < spec["timeoutSeconds"] <= 3600


def test_container(container, settings) -> None:
    assert set(container) <= {"name", "image", "ports", "env", "resources", "startupProbe", "livenessProbe"}
    (port,) = container["ports"]
    assert port["name"] in ("http1", "h2c")
    assert port["containerPort"] == settings.port
    names = [variable["name"] for variable in container["env"]]
    assert len(names) == len(set(names))
    assert not RESERVED & set(names)
    assert set(names) <= {name.upper() for name in Settings.__dataclass_fields__}
    assert settings.drain_seconds < KILLED_AFTER_S


def test_memory_holds_the_service_and_its_files(revision, container, settings) -> None:
    limits = container["resources"]["limits"]
    assert set(limits) == {"cpu", "memory"}
    assert limits["cpu"] in {"1", "2", "4", "6", "8"}  # less than 1 allows no more than one request at once
    megabytes = int(limits["memory"].removesuffix("Gi")) * 2**30 / 1e6
    photos = int(limits["cpu"]) * settings.max_photo_bytes / 1e6
    uploads = revision["spec"]["containerConcurrency"] * settings.max_upload_bytes / 1e6
    model = (ROOT / "app" / "default" / "model.pt").stat().st_size / 1e6
    assert 100 + photos + uploads + 2 * model < 0.8 * megabytes


def test_probes(container) -> None:
    startup, liveness = container["startupProbe"], container["livenessProbe"]
    assert (startup["httpGet"]["path"], liveness["httpGet"]["path"]) == ("/ready", "/health")
    assert startup["periodSeconds"] * startup["failureThreshold"] <= STARTUP_S
    for probe, longest in ((startup, 240), (liveness, 3600)):
        assert set(probe) == {"httpGet", "periodSeconds", "timeoutSeconds", "failureThreshold"}
        assert 1 <= probe["timeoutSeconds"] <= probe["periodSeconds"] <= longest
