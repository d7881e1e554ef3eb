"""What is special about Kubernetes; test_every_target.py has the rest.

There is no cluster here, so kubectl is a stand-in, except that the real one renders the manifests.
"""

import shutil

import pytest

from tests.conftest import needs
from tests.helpers.paths import ROOT
from tests.helpers.places import IMAGE, NEW, NEW_URL, KubernetesPlace, sha256
from tests.standins.kubernetes import Kubernetes
from tests.standins.provider import Fault

pytestmark = needs("kubectl")  # for kubectl kustomize
OVERLAYS = ROOT / "deploy" / "k8s" / "overlays"


@pytest.fixture
def target() -> str:
    return "kubernetes"


@pytest.fixture
def cluster(place: KubernetesPlace) -> Kubernetes:
    return place.provider


def test_the_overlay_decides_about_all_but_image_and_variables(cluster, deploy, tmp_path):
    copy = shutil.copytree(OVERLAYS.parent, tmp_path / "k8s") / "overlays"  # other tests use the originals
    before = {*copy.iterdir()}
    done = deploy(*NEW, "--overlay", "production", "--env", "LOG_LEVEL=debug")
    assert done.code == 0, done.output
    changed = {"MODEL_URL": NEW_URL, "MODEL_SHA256": sha256(NEW_URL), "LOG_LEVEL": "debug"}
    assert cluster.live.env == changed | {"DRAIN_SECONDS": "25", "MAX_PIXELS": "16000000"}
    assert cluster.live.image == f"{IMAGE}:new"
    assert deploy("--image", f"{IMAGE}:new", "--overlay", str(copy / "kind")).code == 0
    assert cluster.live.env == {"DRAIN_SECONDS": "25", "MAX_PIXELS": "16000000"}
    assert {*copy.iterdir()} == before
    assert not cluster.count("POST", "/rollout/undo")


def test_what_kubectl_set_env_has_set_ends_with_the_next_deploy(cluster, deploy):
    assert deploy("--image", f"{IMAGE}:old").code == 0
    settings = cluster.live.env
    cluster.set_env(MODEL_URL="", MODEL_SHA256="", METRICS_TOKEN="secret", DRAIN_SECONDS="1")
    done = deploy(*NEW)
    assert done.code == 0, done.output
    assert (
        "removed these variables, which kubectl set env had set: DRAIN_SECONDS, MODEL_SHA256, MODEL_URL\n"
        in done.out
    )
    settings |= {"METRICS_TOKEN": "secret"}  # which nothing else sets: without it, everybody could read
    assert cluster.live.env == settings | {"MODEL_URL": NEW_URL, "MODEL_SHA256": sha256(NEW_URL)}
    assert deploy("--rollback").code == 0
    assert cluster.live.env["DRAIN_SECONDS"] == "1"  # a revision keeps its variables
    done = deploy("--image", f"{IMAGE}:three")
    assert done.code == 0, done.output
    assert cluster.live.env == settings | {"MODEL_URL": "", "MODEL_SHA256": ""}  # which it doesn't set
    assert deploy(*NEW).code == 0
    assert cluster.live.env == settings | {"MODEL_URL": NEW_URL, "MODEL_SHA256": sha256(NEW_URL)}
    assert "set env" not in deploy(*NEW).output


def test_only_the_service_s_own_deployment_gets_the_image(cluster, deploy):
    assert deploy(*NEW, "--overlay", "fleet").code == 0
    assert cluster.live.image == cluster.images["cats-vs-dogs"] == f"{IMAGE}:new"
    assert cluster.images["gateway"].startswith("nginxinc/")


def test_a_failure_is_explained(cluster, deploy):
    done = deploy("--image", f"{IMAGE}:crash")
    assert done.code == 1
    for line in ("  | about pods", "  | about events", "  | about deployment/cats-vs-dogs"):
        assert line in done.out


def test_what_the_cluster_rejects_changes_nothing(cluster, deploy):
    cluster.faults += [Fault("POST", "/apply", 403, message="Forbidden")]
    done = deploy(*NEW)
    assert done.code == 1
    assert "failed (kubectl apply: error: Forbidden); the previous version serves again" in done.error
    assert len(cluster.revisions) == 1


def test_back_by_hand_to_a_revision(cluster, deploy):
    for tag in ("two", "three"):
        assert deploy("--image", f"{IMAGE}:{tag}").code == 0
    done = deploy("--rollback", "1")
    assert done.code == 0, done.output
    assert cluster.live.image == f"{IMAGE}:old"
    assert [revision.numbers for revision in cluster.revisions] == [[1, 4], [2], [3]]
    assert deploy("--rollback").code == 0
    assert cluster.live.image == f"{IMAGE}:three"


def test_back_by_hand_past_a_revision_that_failed(cluster, deploy):
    assert deploy(*NEW).code == 0
    assert deploy("--image", f"{IMAGE}:broken").code == 1
    done = deploy("--rollback")
    assert done.code == 0, done.output
    assert cluster.live.image == f"{IMAGE}:old"
    works = ("--smoke-test", "/dev/null")  # by now, so it is a revision like any other
    assert deploy("--image", f"{IMAGE}:broken", *works).code == 0
    assert deploy("--image", f"{IMAGE}:three").code == 0
    assert deploy("--rollback", *works).code == 0
    assert cluster.live.image == f"{IMAGE}:broken"


def test_a_failed_revision_that_cannot_be_marked_is_undone_all_the_same(cluster, deploy):
    cluster.faults += [Fault("POST", "/annotate", 403, message="Forbidden")]
    done = deploy("--image", f"{IMAGE}:broken")
    assert done.code == 1
    assert cluster.live.image == f"{IMAGE}:old"


def test_kind_is_set_up_and_gets_the_image(empty_place, deploy, tmp_path):
    record = tmp_path / "record"
    for name, answer in (("kind", ""), ("docker", "sha256:600d600d600d600d")):
        tool = empty_place.provider.folder / name
        tool.write_text(f'#!/bin/sh\necho "{name} $*" >>{record}\necho {answer}\n')
        tool.chmod(0o755)
    options = ("--image", "cats-vs-dogs", "--context", "", "--cluster", "somewhere")
    assert deploy(*options, "--dry-run", CONTAINER="docker").code == 0
    assert {*record.read_text().splitlines()} == {"docker version", "kind get clusters"}
    record.unlink()
    empty_place.provider.context = "kind-somewhere"
    done = deploy(*options, CONTAINER="docker")
    assert done.code == 0, done.output
    commands = [" ".join(line.split()[:3]) for line in record.read_text().splitlines()]
    assert [command for command in commands if command not in ("docker version", "kind get clusters")] == [
        "docker image inspect",
        "kind create cluster",
        "docker tag cats-vs-dogs",
        "docker save --output",
        "kind load image-archive",
    ]
    assert empty_place.provider.live.image == "localhost/cats-vs-dogs:600d600d600d"


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (("--overlay", "none"), "kustomization.yaml does not exist"),
        (("--context", ""), "kind is not installed"),
    ],
)
def test_wrong_options_change_nothing(cluster, deploy, options, reason):
    path = f"{cluster.folder}:/usr/bin:/bin"
    done = deploy(*NEW, *options, PATH=path)
    assert done.code == 1
    assert reason in done.error
    assert done.error.endswith("; nothing was changed\n")
    assert cluster.seen == []
