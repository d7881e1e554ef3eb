"""The monitoring component of deploy/k8s: what kustomize makes of it, against the schemas of its kinds."""

import json
import shutil
import subprocess

import kubernetes_validate
import pytest
import yaml

from tests.conftest import needs
from tests.helpers.beside import check_custom_resource
from tests.helpers.paths import ROOT
from tests.helpers.waiting import HANG_S

pytestmark = needs("kubectl")
Objects = dict[tuple[str, str], dict]


@pytest.fixture(scope="module")
def objects(tmp_path_factory: pytest.TempPathFactory) -> Objects:
    """The production overlay of a copy, with the component added as its comment says."""
    folder = tmp_path_factory.mktemp("project")
    for name in ("deploy/k8s", "monitoring"):
        shutil.copytree(ROOT / name, folder / name, ignore=shutil.ignore_patterns("__pycache__"))
    component = (folder / "deploy/k8s/components/monitoring/kustomization.yaml").read_text()
    (line,) = [line[4:] for line in component.splitlines() if line.startswith("#   components:")]
    overlay = folder / "deploy/k8s/overlays/production"
    with (overlay / "kustomization.yaml").open("a") as file:
        file.write(f"{line}\n")
    command = ["kubectl", "kustomize", overlay]
    done = subprocess.run(command, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stderr
    documents = list(yaml.safe_load_all(done.stdout))
    return {(document["kind"], document["metadata"]["name"]): document for document in documents}


@pytest.mark.parametrize("kind", ["ServiceMonitor", "PrometheusRule"])
def test_objects_meet_the_operator_s_schemas(objects: Objects, kind: str) -> None:
    check_custom_resource(objects[kind, "cats-vs-dogs"])


def test_every_pod_is_scraped_with_the_token(objects: Objects) -> None:
    monitor, service = objects["ServiceMonitor", "cats-vs-dogs"], objects["Service", "cats-vs-dogs"]
    assert monitor["metadata"]["namespace"] == service["metadata"]["namespace"]
    assert monitor["spec"]["selector"]["matchLabels"].items() <= service["metadata"]["labels"].items()
    assert service["metadata"]["labels"][monitor["spec"]["jobLabel"]] == "cats-vs-dogs"  # the alerts' job
    (endpoint,) = monitor["spec"]["endpoints"]
    assert endpoint["port"] == service["spec"]["ports"][0]["name"]
    assert endpoint["path"] == "/metrics"
    assert (
        yaml.safe_load((ROOT / "monitoring/prometheus.yml").read_text())["global"]["scrape_interval"]
        == (endpoint["interval"])
    )
    (container,) = objects["Deployment", "cats-vs-dogs"]["spec"]["template"]["spec"]["containers"]
    secret = endpoint["authorization"]["credentials"]
    assert secret == {"name": container["envFrom"][1]["secretRef"]["name"], "key": "METRICS_TOKEN"}
    # The same label as everywhere else: `sum by (job, instance)` must tell pods apart, and alerts name them.
    assert endpoint["relabelings"] == [
        {"sourceLabels": ["__meta_kubernetes_pod_name"], "targetLabel": "instance"},
        {"action": "labeldrop", "regex": "service"},  # two Services may select one pod
    ]


def test_rules_are_those_of_monitoring_except_those_about_prometheus(objects: Objects) -> None:
    groups = objects["PrometheusRule", "cats-vs-dogs"]["spec"]["groups"]
    files = [ROOT / "monitoring" / "rules" / name for name in ("recording.yml", "alerts.yml")]
    *expected, own = (group for file in files for group in yaml.safe_load(file.read_text())["groups"])
    assert groups == expected
    assert own["name"] == "monitoring"


def test_dashboards_are_those_of_monitoring(objects: Objects) -> None:
    dashboards = objects["ConfigMap", "cats-vs-dogs-dashboards"]
    kubernetes_validate.validate(dashboards, "1.37", strict=True)
    assert dashboards["metadata"]["namespace"] == "cats-vs-dogs"
    assert dashboards["metadata"]["labels"]["grafana_dashboard"] == "1"
    files = {file.name: file.read_text() for file in (ROOT / "monitoring/grafana/dashboards").glob("*.json")}
    assert dashboards["data"] == files
    # `kubectl apply` keeps a copy in an annotation, which holds 256 KiB.
    assert len(json.dumps(dashboards)) < 200_000


def test_the_rest_of_the_overlay_stays(objects: Objects) -> None:
    command = ["kubectl", "kustomize", ROOT / "deploy/k8s/overlays/production"]
    plain = list(yaml.safe_load_all(subprocess.check_output(command, text=True, timeout=HANG_S)))
    assert plain
    for document in plain:
        assert objects[document["kind"], document["metadata"]["name"]] == document
