"""deploy/k8s/train: the training Job against Kubernetes' schemas, and its parts against each other."""

import kubernetes_validate
import yaml

from tests.helpers.paths import ROOT


def test_the_training_job() -> None:
    documents = list(yaml.safe_load_all((ROOT / "deploy/k8s/train/job.yaml").read_text()))
    for document in documents:
        kubernetes_validate.validate(document, "1.37", strict=True)
    service, claim, job = documents
    pod = job["spec"]["template"]["spec"]
    (container,) = pod["containers"]
    assert pod["subdomain"] == service["metadata"]["name"]
    assert service["spec"]["selector"] == {"job-name": job["metadata"]["name"]}
    command = " ".join(container["command"])
    assert f"--nnodes={job['spec']['parallelism']} " in command
    port = service["spec"]["ports"][0]["port"]
    assert f"--rdzv-endpoint={job['metadata']['name']}-0.{pod['subdomain']}:{port} " in command
    claims = [volume["persistentVolumeClaim"]["claimName"] for volume in pod["volumes"][:1]]
    assert claims == [claim["metadata"]["name"]]
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
