"""The overlay for many pods and the manifest for KServe: schemas, and whether their parts fit the service."""

import re
from typing import Any

import kubernetes_validate
import pytest
import yaml
from flask import Flask

from app import create_app
from app.http.gate import PREDICTIONS
from app.routes.open_inference import MODEL
from app.settings import Settings
from app.telemetry.metrics import Metrics
from tests.conftest import needs
from tests.deploy.test_kubernetes_manifests import FLEET, FOLDER, rendered
from tests.helpers.beside import check_custom_resource

KSERVE = FOLDER / "kserve" / "inferenceservice.yaml"
pytestmark = needs("kubectl")
Objects = dict[tuple[str, str], dict[str, Any]]


@pytest.fixture(scope="module")
def objects() -> Objects:
    named = {(one["kind"], one["metadata"]["name"]): one for one in rendered(FLEET)}
    assert len(named) == len(rendered(FLEET))
    return named


@pytest.fixture(scope="module")
def inference_service() -> dict[str, Any]:
    document: dict[str, Any] = yaml.safe_load(KSERVE.read_text())
    return document


@pytest.fixture(scope="module")
def app() -> Flask:
    return create_app(Settings())


def scaled(objects: Objects) -> dict[str, Any]:
    spec: dict[str, Any] = objects["ScaledObject", "cats-vs-dogs"]["spec"]
    return spec


def pod(objects: Objects, name: str = "cats-vs-dogs") -> dict[str, Any]:
    spec: dict[str, Any] = objects["Deployment", name]["spec"]["template"]["spec"]
    return spec


def test_kubernetes_own_objects_meet_their_schemas(objects: Objects) -> None:
    for document in objects.values():
        if "." not in document["apiVersion"] or document["apiVersion"].endswith("k8s.io/v1"):
            kubernetes_validate.validate(document, "1.37", strict=True)


@pytest.mark.parametrize("kind", ["ScaledObject", "ServiceMonitor", "PrometheusRule"])
def test_others_meet_theirs(objects: Objects, kind: str) -> None:
    check_custom_resource(objects[kind, "cats-vs-dogs"])


def test_the_inference_service_meets_kserve_s_schema(inference_service: dict[str, Any]) -> None:
    check_custom_resource(inference_service)


def queries(objects: Objects, inference_service: dict[str, Any]) -> list[str]:
    (trigger,) = scaled(objects)["triggers"]
    (metric,) = inference_service["spec"]["predictor"]["autoScaling"]["metrics"]
    return [trigger["metadata"]["query"], metric["external"]["metric"]["query"]]


def test_the_autoscalers_measure_what_the_service_exports(
    objects: Objects, inference_service: dict[str, Any]
) -> None:
    samples = {
        (sample.name, sample.labels.get("route"))
        for family in Metrics(PREDICTIONS).registry.collect()
        for sample in family.samples
    }
    for query in queries(objects, inference_service):
        match = re.search(r'rate\((\w+)\{.*route=~"([^"]+)"', query)
        assert match
        routes = {route for name, route in samples if name == match[1] and re.fullmatch(match[2], str(route))}
        assert routes == PREDICTIONS
        assert not re.fullmatch(match[2], "/v2/models/<model>/ready")


def test_one_autoscaler_within_bounds(objects: Objects) -> None:
    spec = scaled(objects)
    assert not [name for kind, name in objects if kind == "HorizontalPodAutoscaler"]
    assert ("Deployment", spec["scaleTargetRef"]["name"]) in objects
    assert "replicas" not in objects["Deployment", "cats-vs-dogs"]["spec"]
    assert 2 <= spec["minReplicaCount"] <= spec["fallback"]["replicas"] <= spec["maxReplicaCount"] <= 200
    (trigger,) = spec["triggers"]
    assert trigger["metricType"] == "AverageValue"  # KEDA's fallback needs it
    (container,) = pod(objects)["containers"]
    assert 0 < float(trigger["metadata"]["threshold"]) < float(container["resources"]["limits"]["cpu"])
    assert container["resources"]["requests"]["cpu"] == container["resources"]["limits"]["cpu"]


def test_a_scale_down_leaves_time_for_each_drain(objects: Objects, inference_service: dict[str, Any]) -> None:
    predictor = inference_service["spec"]["predictor"]
    settings = Settings.from_env({one["name"]: one["value"] for one in predictor["containers"][0]["env"]})
    behaviors = [
        scaled(objects)["advanced"]["horizontalPodAutoscalerConfig"]["behavior"],
        predictor["autoScaling"]["behavior"],
    ]
    for spec, behavior in zip((pod(objects), predictor), behaviors, strict=True):
        (container,) = spec["containers"]
        pause = container["lifecycle"]["preStop"]["sleep"]["seconds"]
        assert pause >= 3
        assert spec["terminationGracePeriodSeconds"] > pause + settings.drain_seconds
        down = behavior["scaleDown"]
        assert down["stabilizationWindowSeconds"] >= 300
        for policy in down["policies"]:
            assert policy["periodSeconds"] > spec["terminationGracePeriodSeconds"]
            assert policy["value"] <= 10
    gateway = pod(objects, "gateway")
    reading = re.search(r"proxy_read_timeout (\d+)s;", gateway_configuration(objects))
    assert reading
    pause = gateway["containers"][0]["lifecycle"]["preStop"]["sleep"]["seconds"]
    assert gateway["terminationGracePeriodSeconds"] > pause + int(reading[1])


def test_pods_are_spread_and_protected(objects: Objects) -> None:
    spread = {
        one["topologyKey"]: one["whenUnsatisfiable"] for one in pod(objects)["topologySpreadConstraints"]
    }
    assert spread == {
        "kubernetes.io/hostname": "ScheduleAnyway",
        "topology.kubernetes.io/zone": "DoNotSchedule",
    }
    for name in ("cats-vs-dogs", "gateway"):
        labels = objects["Deployment", name]["spec"]["template"]["metadata"]["labels"]
        selected = [
            objects[kind, name]["spec"] for kind in ("PodDisruptionBudget", "NetworkPolicy", "Service")
        ]
        budget, policy, service = selected
        assert budget["selector"]["matchLabels"].items() <= labels.items()
        assert policy["podSelector"]["matchLabels"].items() <= labels.items()
        assert service["selector"].items() <= labels.items()
        for one in pod(objects, name)["topologySpreadConstraints"]:
            assert one["labelSelector"]["matchLabels"].items() <= labels.items()


def gateway_configuration(objects: Objects) -> str:
    (volume,) = (one for one in pod(objects, "gateway")["volumes"] if "configMap" in one)
    text: str = objects["ConfigMap", volume["configMap"]["name"]]["data"]["default.conf"]
    return text


def test_the_gateway_finds_the_pods(objects: Objects) -> None:
    text = gateway_configuration(objects)
    upstream = re.search(r"server (\S+):(\d+) resolve", text)
    assert upstream
    service = objects["Service", "pods"]
    place = f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc.cluster.local"
    assert upstream[1] == place
    (container,) = pod(objects)["containers"]
    (port,) = container["ports"]
    assert service["spec"]["clusterIP"] == "None"
    assert int(upstream[2]) == service["spec"]["ports"][0]["port"] == port["containerPort"]
    assert service["spec"]["ports"][0]["targetPort"] == port["name"]
    assert service["spec"]["selector"] == objects["Service", "cats-vs-dogs"]["spec"]["selector"]
    # Prometheus must not find the pods twice.
    monitored = objects["ServiceMonitor", "cats-vs-dogs"]["spec"]["selector"]["matchLabels"]
    assert not monitored.items() <= service["metadata"].get("labels", {}).items()
    names, egress = objects["NetworkPolicy", "gateway"]["spec"]["egress"]
    assert names == objects["NetworkPolicy", "cats-vs-dogs"]["spec"]["egress"][0]  # DNS, wherever it is
    assert egress["ports"] == [{"port": port["containerPort"]}]
    (gateway,) = pod(objects, "gateway")["containers"]
    assert f"listen {gateway['ports'][0]['containerPort']};" in text
    assert f"location = {gateway['readinessProbe']['httpGet']['path']} {{" in text
    limit = re.search(r"client_max_body_size (\d+)m;", text)
    assert limit
    assert int(limit[1]) > Settings.max_upload_mb
    config = objects["ConfigMap", container["envFrom"][0]["configMapRef"]["name"]]["data"]
    assert Settings.from_env(config).trusted_proxies


def test_the_model_comes_from_the_image_volume(objects: Objects) -> None:
    (container,) = pod(objects)["containers"]
    config = objects["ConfigMap", container["envFrom"][0]["configMapRef"]["name"]]["data"]
    (mount,) = (one for one in container["volumeMounts"] if one["name"] == "model")
    (volume,) = (one for one in pod(objects)["volumes"] if one["name"] == "model")
    assert mount["readOnly"]
    assert config["MODEL_URL"] == f"file://{mount['mountPath']}/model.pt"
    assert volume["image"]["pullPolicy"] == "IfNotPresent"
    assert container["image"].startswith(
        volume["image"]["reference"].rpartition(":")[0]
    )  # `make owner` finds it


def test_kserve_s_pod_is_the_deployment_s(
    objects: Objects, inference_service: dict[str, Any], app: Flask
) -> None:
    predictor = inference_service["spec"]["predictor"]
    (container,), (own,) = predictor["containers"], pod(objects)["containers"]
    assert container["securityContext"] == own["securityContext"]
    assert predictor["securityContext"] == pod(objects)["securityContext"]
    assert container["lifecycle"] == own["lifecycle"]
    assert container["resources"]["limits"] == own["resources"]["limits"]
    assert container["name"] == "kserve-container"
    assert inference_service["metadata"]["name"] == MODEL
    paths = {rule.rule for rule in app.url_map.iter_rules()}
    for probe in ("startupProbe", "livenessProbe", "readinessProbe"):
        assert container[probe]["httpGet"]["path"] in paths
        assert container[probe]["httpGet"]["port"] == container["ports"][0]["containerPort"]
    assert predictor["minReplicas"] < predictor["maxReplicas"]
    labels = {"serving.kserve.io/inferenceservice": MODEL}
    assert all(
        one["labelSelector"]["matchLabels"] == labels for one in predictor["topologySpreadConstraints"]
    )
