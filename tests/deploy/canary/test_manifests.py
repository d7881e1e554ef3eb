"""The manifests of canaries: the schemas of others, and whether the parts find each other."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from deploy.kubernetes_canary import ANNOTATION, CANARY, NAME, manifests, share_of, weights
from deploy.target import DeployError
from tests.conftest import needs
from tests.helpers.beside import check_custom_resource
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S

K8S = ROOT / "deploy" / "k8s"
ARGO = [yaml.safe_load(file.read_text()) for file in sorted((K8S / "argo-rollouts").glob("*.yaml"))]
Object = dict[str, Any]


@pytest.fixture(scope="module")
def overlay(tmp_path_factory) -> list[Object]:
    """Production with the component, as an owner would have it."""
    folder: Path = tmp_path_factory.mktemp("overlay")
    layer = {
        "resources": [os.path.relpath(K8S / "overlays" / "production", folder)],
        "components": [
            os.path.relpath(K8S / "components" / name, folder) for name in ("canary", "monitoring")
        ],
    }
    (folder / "kustomization.yaml").write_text(json.dumps(layer))
    command = ["kubectl", "kustomize", str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stderr
    return list(yaml.safe_load_all(done.stdout))


@pytest.fixture
def named(overlay) -> dict[tuple[str, str], Object]:
    """The objects that are applied for a canary."""
    items = manifests(overlay, 3, "abc-1")["items"]
    return {(one["kind"], one["metadata"]["name"]): one for one in items}


@needs("kubectl")
def test_the_route_meets_the_schema_of_the_gateway_api(named) -> None:
    check_custom_resource(named["HTTPRoute", NAME])


OF_ARGO = [one for one in ARGO if one["apiVersion"].startswith("argoproj.io/")]


@pytest.mark.parametrize("document", OF_ARGO, ids=lambda document: document["kind"])
def test_the_example_meets_the_schemas_of_argo_rollouts(document) -> None:
    check_custom_resource(document)


@needs("kubectl")
def test_the_candidate_is_a_copy_that_no_other_object_selects(overlay, named) -> None:
    live = {(one["kind"], one["metadata"]["name"]): one for one in overlay}
    deployment, original = named["Deployment", CANARY], live["Deployment", NAME]
    for document in named.values():
        if document["kind"] != "HTTPRoute":
            kubernetes_validate.validate(document, "1.37", strict=True)
    assert ("Deployment", NAME) not in named
    assert ("HorizontalPodAutoscaler", NAME) not in named
    assert deployment["spec"]["replicas"] == 3
    assert deployment["metadata"]["annotations"] == {ANNOTATION: "abc-1"}
    pod, pod_of_live = (one["spec"]["template"]["spec"] for one in (deployment, original))
    assert pod["containers"] == pod_of_live["containers"]
    labels = deployment["spec"]["template"]["metadata"]["labels"]
    for selector in (
        deployment["spec"]["selector"]["matchLabels"],
        named["Service", CANARY]["spec"]["selector"],
        named["NetworkPolicy", CANARY]["spec"]["podSelector"]["matchLabels"],
    ):
        assert selector.items() <= labels.items()
    for kind in ("Service", "NetworkPolicy", "PodDisruptionBudget"):
        spec = live[kind, NAME]["spec"]
        selector = spec.get("podSelector", spec.get("selector"))
        assert not selector.get("matchLabels", selector).items() <= labels.items()
    assert original["spec"]["template"]["metadata"]["labels"] != labels  # the overlay itself is not changed


@needs("kubectl")
def test_prometheus_scrapes_both_services_as_one_job(overlay, named) -> None:
    (monitor,) = (one for one in overlay if one["kind"] == "ServiceMonitor")
    selected = monitor["spec"]["selector"]["matchLabels"]
    service = named["Service", CANARY]
    assert selected.items() <= service["metadata"]["labels"].items()
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "cats-vs-dogs"
    assert service["spec"]["ports"][0]["name"] == monitor["spec"]["endpoints"][0]["port"]


@needs("kubectl")
def test_weights_reach_the_right_services(named) -> None:
    route = named["HTTPRoute", NAME]
    assert share_of(route) == 0
    refs = route["spec"]["rules"][0]["backendRefs"]
    assert [ref["name"] for ref in refs] == [NAME, CANARY]
    for patch in weights(10):
        number = int(re.fullmatch(r"/spec/rules/0/backendRefs/(\d)/weight", patch["path"])[1])
        refs[number]["weight"] = patch["value"]
    assert [ref["weight"] for ref in refs] == [90, 10]
    assert share_of(route) == 10


@needs("kubectl")
def test_an_overlay_without_the_component_is_an_error() -> None:
    done = subprocess.run(["kubectl", "kustomize", str(K8S / "base")], capture_output=True, timeout=HANG_S)
    with pytest.raises(DeployError, match="components/canary"):
        manifests(list(yaml.safe_load_all(done.stdout)), 2, "abc")


def test_argo_s_rollout_names_what_exists() -> None:
    objects = {document["kind"]: document for document in ARGO}
    canary = objects["Rollout"]["spec"]["strategy"]["canary"]
    assert (canary["stableService"], canary["canaryService"]) == (NAME, CANARY)
    service = objects["Service"]
    assert service["metadata"]["name"] == CANARY
    assert service["spec"]["selector"] == objects["Rollout"]["spec"]["selector"]["matchLabels"]
    analyses = [step["analysis"] for step in canary["steps"] if "analysis" in step]
    arguments = {argument["name"] for argument in objects["AnalysisTemplate"]["spec"]["args"]}
    for analysis in analyses:
        assert analysis["templates"] == [{"templateName": objects["AnalysisTemplate"]["metadata"]["name"]}]
        assert {argument["name"] for argument in analysis["args"]} <= arguments


@pytest.mark.skipif(not shutil.which("promtool"), reason="not installed: promtool")
def test_argo_s_queries_are_promql(tmp_path) -> None:
    (template,) = (document for document in ARGO if document["kind"] == "AnalysisTemplate")
    queries = [one["provider"]["prometheus"]["query"] for one in template["spec"]["metrics"]]
    rules = [
        {"record": f"a:{number}", "expr": re.sub(r"\{\{.*?\}\}", "x", query)}
        for number, query in enumerate(queries)
    ]
    file = tmp_path / "rules.yml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "x", "rules": rules}]}))
    done = subprocess.run(["promtool", "check", "rules", str(file)], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
