"""deploy/k8s/score: the RayJob against KubeRay's schema, and against the code that it runs."""

import argparse
import re
import tomllib

import kubernetes_validate
import pytest
import yaml

from ml.scoring import score
from tests.helpers.beside import check_custom_resource
from tests.helpers.paths import ROOT

FOLDER = ROOT / "deploy" / "k8s" / "score"


@pytest.fixture
def objects() -> list[dict]:
    return list(yaml.safe_load_all((FOLDER / "rayjob.yaml").read_text()))


@pytest.fixture
def job(objects: list[dict]) -> dict:
    (job,) = (each for each in objects if each["kind"] == "RayJob")
    return job


def groups(job: dict) -> list[dict]:
    cluster = job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def test_the_job_meets_kuberay_s_schema(job: dict) -> None:
    check_custom_resource(job)


def test_pods_and_accounts_meet_kubernetes_schemas(objects: list[dict], job: dict) -> None:
    accounts = [each for each in objects if each["kind"] == "ServiceAccount"]
    pods = [
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}} | group["template"]
        for group in groups(job)
    ]
    for document in (*accounts, *pods):
        kubernetes_validate.validate(document, "1.37", strict=True)
    used = [pod["spec"]["serviceAccountName"] for pod in pods]
    assert sorted(used) == sorted(account["metadata"]["name"] for account in accounts)
    assert len(set(used)) == 2  # those who decode photos can't write
    assert {each["metadata"]["namespace"] for each in objects} == {"cats-vs-dogs"}


def test_the_command_is_one_that_score_takes(job: dict) -> None:
    words = job["spec"]["entrypoint"].split()
    assert words[:4] == ["python", "-m", "ml", "score"]
    parser = argparse.ArgumentParser()
    score.configure(parser)
    assert parser.parse_args(words[4:]).engine == "ray"
    assert job["spec"]["backoffLimit"] > 0
    assert job["spec"]["shutdownAfterJobFinishes"]


def test_all_parts_have_the_same_ray(job: dict) -> None:
    pins = tomllib.loads((ROOT / "pyproject.toml").read_text())["dependency-groups"]["scale"]
    (version,) = {match[1] for pin in pins if (match := re.match(r"ray==([\d.]+)", str(pin)))}
    assert job["spec"]["rayClusterSpec"]["rayVersion"] == version
    assert f"FROM rayproject/ray:{version}-py311\n" in (FOLDER / "Dockerfile").read_text()
    (submitter,) = job["spec"]["submitterPodTemplate"]["spec"]["containers"]
    images = {container["image"] for group in groups(job) for container in (submitter, *containers(group))}
    assert images == {f"REGISTRY/cats-vs-dogs-score:{version}"}


def containers(group: dict) -> list[dict]:
    return group["template"]["spec"]["containers"]


def test_nodes_are_closed_send_nothing_home_and_have_memory_for_each_task(job: dict) -> None:
    assert job["spec"]["rayClusterSpec"]["authOptions"] == {"mode": "token"}
    head, *workers = groups(job)
    assert head["rayStartParams"]["num-cpus"] == "0"  # no photo is decoded beside the driver
    for group in (head, *workers):
        (container,) = containers(group)
        assert {"name": "RAY_USAGE_STATS_ENABLED", "value": "0"} in container["env"]
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert group["template"]["spec"]["securityContext"]["runAsNonRoot"]
    for group in workers:
        (container,) = containers(group)
        cpus, memory = (container["resources"]["requests"][name] for name in ("cpu", "memory"))
        assert int(memory.removesuffix("Gi")) * 1024 >= int(cpus) * 500 + 1024


def test_the_namespace_admits_all_pods_of_the_job(job: dict) -> None:
    """Its Pod Security Standard also holds for what KubeRay adds: the submitter and the autoscaler."""
    namespace = yaml.safe_load((ROOT / "deploy/k8s/base/namespace.yaml").read_text())
    assert namespace["metadata"]["labels"]["pod-security.kubernetes.io/enforce"] == "restricted"
    pods = [
        job["spec"]["submitterPodTemplate"]["spec"],
        *(group["template"]["spec"] for group in groups(job)),
    ]
    for pod in pods:
        assert pod["securityContext"]["runAsNonRoot"]
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert job["spec"]["rayClusterSpec"]["enableInTreeAutoscaling"]
    autoscaler = job["spec"]["rayClusterSpec"]["autoscalerOptions"]
    for container in (autoscaler, *(one for pod in pods for one in pod["containers"])):
        security = container["securityContext"]
        assert security == {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}


def test_the_image_gets_only_what_its_dockerfile_copies() -> None:
    copied = {
        word.rstrip("/")
        for line in (FOLDER / "Dockerfile").read_text().splitlines()
        if line.startswith("COPY ")
        for word in line.split()[1:-1]
    }
    lines = (FOLDER / "Dockerfile.dockerignore").read_text().splitlines()
    assert copied == {line.removeprefix("!") for line in lines if line.startswith("!")}
    assert "*" in lines
