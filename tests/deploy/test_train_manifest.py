"""deploy/k8s/train: the Job and Kubeflow's TrainJob against their schemas and against each other."""

import argparse

import kubernetes_validate
import pytest
import yaml

from ml.__main__ import COMMANDS
from tests.helpers.beside import check_custom_resource
from tests.helpers.paths import ROOT

FOLDER = ROOT / "deploy/k8s/train"


@pytest.fixture
def documents() -> list[dict]:
    return list(yaml.safe_load_all((FOLDER / "job.yaml").read_text()))


@pytest.fixture
def train_job() -> dict:
    return yaml.safe_load((FOLDER / "trainjob.yaml").read_text())


def command_of(arguments: list[str]) -> list[str]:
    """Return what torchrun starts, after the options that torchrun knows."""
    from torch.distributed.run import get_args_parser

    options, rest = get_args_parser().parse_known_args(arguments)
    assert isinstance(options, argparse.Namespace)
    assert options.module
    assert options.max_restarts == 10
    assert options.rdzv_backend == "c10d"
    assert options.rdzv_endpoint
    return [options.training_script, *options.training_script_args, *rest]


def test_the_job(documents: list[dict]) -> None:
    for document in documents:
        kubernetes_validate.validate(document, "1.37", strict=True)
    service, claim, job = documents
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    torchrun, *arguments = container["command"]
    assert torchrun == "torchrun"
    assert command_of(arguments) == ["ml", "train"]
    assert "train" in COMMANDS
    assert f"--nnodes={job['spec']['parallelism']}" in arguments
    # The training refuses restarts without it.
    assert {"name": "TORCH_DISABLE_SHARE_RDZV_TCP_STORE", "value": "1"} in container["env"]
    port = service["spec"]["ports"][0]["port"]
    assert f"--rdzv-endpoint={job['metadata']['name']}-0.{pod['subdomain']}:{port}" in arguments
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"][:1]]
    assert claims == [claim["metadata"]["name"]]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}


def test_the_train_job_meets_kubeflow_s_schema(train_job: dict) -> None:
    check_custom_resource(train_job)


def test_the_train_job_trains_as_the_job_does(train_job: dict, documents: list[dict]) -> None:
    job = documents[-1]
    trainer = train_job["spec"]["trainer"]
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    (patch,) = train_job["spec"]["runtimePatches"]
    (node,) = patch["trainingRuntimeSpec"]["template"]["spec"]["replicatedJobs"]
    patched = node["template"]["spec"]["template"]["spec"]
    assert trainer["command"] == ["torchrun"]
    assert command_of(trainer["args"]) == ["ml", "train"]
    assert trainer["numNodes"] == job["spec"]["parallelism"]
    for key in ("image", "env"):
        assert trainer[key] == container[key]
    assert trainer["resourcesPerNode"] == container["resources"]
    for key in ("securityContext", "volumes"):
        assert patched[key] == pod[key]
    assert patched["containers"][0]["volumeMounts"] == container["volumeMounts"]
    kubernetes_validate.validate(
        {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "x"}}
        | {"spec": patched | {"containers": [container]}},
        "1.37",
        strict=True,
    )
