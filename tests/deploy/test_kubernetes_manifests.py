"""Checks deploy/k8s against the API's schemas and the service's settings, and runs the pod with podman."""

import contextlib
import dataclasses
import os
import re
import subprocess
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import kubernetes_validate
import pytest
import yaml

from app.settings import Settings
from scripts.common.process import free_port
from tests.conftest import REQUIRE_ALL, needs
from tests.helpers.container import ENGINE
from tests.helpers.paths import ROOT
from tests.helpers.service import Client
from tests.helpers.waiting import HANG_S

FOLDER = ROOT / "deploy" / "k8s"
FLEET = "overlays/fleet"  # test_kubernetes_fleet.py tests it
KUSTOMIZATIONS = [
    "base",
    *sorted({f"overlays/{path.name}" for path in (FOLDER / "overlays").iterdir()} - {FLEET}),
]
pytestmark = needs("kubectl")  # for kubectl kustomize
Objects = dict[str, dict]


def rendered(name: str) -> list[dict]:
    command = ["kubectl", "kustomize", FOLDER / name]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


def kustomize(name: str) -> Objects:
    documents = rendered(name)
    kinds = {document["kind"]: document for document in documents}
    assert len(kinds) == len(documents)
    return kinds


@pytest.fixture(scope="module")
def objects() -> Objects:
    return kustomize("base")


@pytest.mark.parametrize("name", KUSTOMIZATIONS)
def test_schemas_and_what_each_overlay_changes(name, objects) -> None:
    overlay = kustomize(name)
    for document in overlay.values():
        kubernetes_validate.validate(document, "1.37", strict=True)
    settings = Settings.from_env(overlay["ConfigMap"]["data"])
    assert {*objects} - {*overlay} == ({"HorizontalPodAutoscaler"} if name == "overlays/kind" else set())
    assert bool(settings.model_url) == (name in ("overlays/production", "overlays/public"))
    assert overlay["Deployment"]["spec"].get("replicas") == (2 if name == "overlays/kind" else None)
    assert {document["metadata"].get("namespace") for document in overlay.values()} == {None, "cats-vs-dogs"}


def test_parts_find_each_other(objects) -> None:
    deployment, config = objects["Deployment"], objects["ConfigMap"]
    name, labels = deployment["metadata"]["name"], deployment["spec"]["template"]["metadata"]["labels"]
    pod = deployment["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        objects["Service"]["spec"]["selector"],
        objects["PodDisruptionBudget"]["spec"]["selector"]["matchLabels"],
        objects["NetworkPolicy"]["spec"]["podSelector"]["matchLabels"],
        *(spread["labelSelector"]["matchLabels"] for spread in pod["topologySpreadConstraints"]),
    ):
        assert selector
        assert selector.items() <= labels.items()
    target = objects["HorizontalPodAutoscaler"]["spec"]["scaleTargetRef"]
    assert (target["apiVersion"], target["kind"], target["name"]) == ("apps/v1", "Deployment", name)
    assert "replicas" not in deployment["spec"]  # every apply would override the autoscaler
    assert pod["serviceAccountName"] == objects["ServiceAccount"]["metadata"]["name"]
    assert container["envFrom"][0] == {"configMapRef": {"name": config["metadata"]["name"]}}
    assert container["envFrom"][1]["secretRef"]["optional"]
    (port,) = container["ports"]
    assert port["containerPort"] == Settings.port
    assert objects["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    assert objects["NetworkPolicy"]["spec"]["ingress"][0]["ports"] == [{"port": port["name"]}]


def test_settings_fit_the_pod(objects, monkeypatch) -> None:
    config, deployment = objects["ConfigMap"]["data"], objects["Deployment"]["spec"]
    pod = deployment["template"]["spec"]
    (container,) = pod["containers"]
    assert set(config) <= {name.upper() for name in Settings.__dataclass_fields__}
    settings = Settings.from_env(config)
    pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert pod["terminationGracePeriodSeconds"] > pause + settings.drain_seconds
    readiness = container["readinessProbe"]
    assert pause >= 3  # until every node has removed the pod from its routing tables
    assert readiness["httpGet"]["path"] == "/ready"
    assert {container[probe]["httpGet"]["path"] for probe in ("livenessProbe", "startupProbe")} == {"/health"}
    limits = container["resources"]["limits"]
    monkeypatch.setattr("app.memory.memory_limit", lambda: megabytes(limits["memory"]) * 1e6)
    settings = dataclasses.replace(settings, max_concurrency=int(limits["cpu"]))
    assert settings.max_concurrency * settings.max_photo_bytes / 1e6 + 100 < 0.8 * megabytes(limits["memory"])
    (volume,) = pod["volumes"]
    assert volume["emptyDir"]["sizeLimit"] == limits["ephemeral-storage"]


def megabytes(quantity: str) -> float:
    number, unit = re.fullmatch(r"(\d+)([MG]i)", quantity).groups()  # type: ignore[union-attr]
    return int(number) * {"Mi": 2**20, "Gi": 2**30}[unit] / 1e6


def test_pod_meets_the_restricted_standard(objects) -> None:
    assert objects["Namespace"]["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pod = objects["Deployment"]["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["securityContext"]["runAsNonRoot"]
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    assert container["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "readOnlyRootFilesystem": True,
        "capabilities": {"drop": ["ALL"]},
    }
    assert "USER {runAsUser}:{runAsGroup}".format(**pod["securityContext"]) in (
        (ROOT / "Dockerfile").read_text().splitlines()
    )


class Pod(Client):
    """The Deployment's pod, run by podman under a unique name on a free port of loopback."""

    def __init__(self, folder: Path, objects: Objects, image: str) -> None:
        super().__init__(free_port())
        deployment = objects["Deployment"]
        deployment["metadata"]["name"] = f"test-{uuid.uuid4().hex[:12]}"
        self.name = f"{deployment['metadata']['name']}-pod-0-app"
        self.config: dict[str, str] = objects["ConfigMap"]["data"]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        container["image"] = image
        container["ports"][0] |= {"hostIP": "127.0.0.1", "hostPort": self.port}
        (volume,) = deployment["spec"]["template"]["spec"]["volumes"]
        volume["name"] = container["volumeMounts"][0]["name"] = (
            self.name
        )  # podman shares volumes between pods
        self.file = folder / "manifests.yaml"
        self.file.write_text(yaml.safe_dump_all(objects.values()))
        self.env = dict(os.environ)
        if config := os.environ.get("CONTAINERS_CONF"):
            # In a pod, podman 4.3 uses the soft limit as the hard one too, so they must be equal.
            equal = re.sub(r"\b(nofile|nproc)=\d+:(\d+)", r"\1=\2:\2", Path(config).read_text())
            (folder / "containers.conf").write_text(equal)
            self.env["CONTAINERS_CONF"] = str(folder / "containers.conf")

    def podman(self, *arguments: str) -> str:
        command = ["podman", *arguments]
        done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S, env=self.env)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def inside(self, command: str) -> str:
        return self.podman("exec", self.name, "sh", "-c", command)

    def ended(self) -> str | None:
        running = self.podman("inspect", "--format", "{{.State.Running}}", self.name).strip() == "true"
        return None if running else self.podman("logs", self.name)


@pytest.fixture
def pod(tmp_path, image) -> Iterator[Pod]:
    pod = Pod(tmp_path, kustomize("base"), image)
    try:
        pod.started = time.perf_counter()
        pod.podman("kube", "play", str(pod.file))
        yield pod
    finally:
        with contextlib.suppress(AssertionError):
            pod.podman("kube", "down", str(pod.file))


# The image fixture builds with the engine of tests/helpers/container.py; podman must have the image.
@pytest.mark.skipif(ENGINE != "podman" and not REQUIRE_ALL, reason="needs podman, for podman kube play")
def test_the_deployment_s_pod_runs_and_answers(pod) -> None:
    pod.wait("/ready")
    status, answer = pod.predict((ROOT / "tests" / "photos" / "cat.jpg").read_bytes())
    assert (status, answer["label"]) == (200, "cat")
    status = dict(line.split(":\t", 1) for line in pod.inside("cat /proc/1/status").splitlines())
    assert status["Uid"].split() == ["10001"] * 4
    assert status["NoNewPrivs"] == "1"
    assert {int(status[name], 16) for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")} == {0}
    assert pod.inside("touch /cache/x && echo written") == "written\n"
    mounts = [line.split() for line in pod.inside("cat /proc/mounts").splitlines()]
    assert next(options for _, at, _, options, *_ in mounts if at == "/").split(",")[0] == "ro"
    assert {f"{name}={value}" for name, value in pod.config.items()} <= {*pod.inside("env").splitlines()}
