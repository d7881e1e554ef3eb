"""scripts/deploy_k8s.sh: what it does when a rollout or the smoke test fails.

No cluster is at hand, so kubectl is a stand-in: it knows revisions and forwards a port to a real service. The
real kubectl renders the manifests, and the smoke test is the real one.
"""

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.app.service import ROOT, free_port, running
from tests.conftest import needs
from tests.waiting import HANG_S

pytestmark = needs("kubectl")  # for kubectl kustomize

KUBECTL = """#!{python}
import os, pathlib, re, sys, time
arguments, state = sys.argv[1:], pathlib.Path(os.environ["STATE"])
if arguments[0] == "kustomize":
    os.execv({kubectl!r}, ["kubectl", *arguments])
assert arguments[:4] == ["--context", os.environ["CONTEXT"], "--namespace", "cats-vs-dogs"], arguments
revisions = state.read_text().split() if state.exists() else []  # the last one is what runs
image = revisions[-1].partition("=")[2] if revisions else ""
with open(os.environ["LOG"], "a") as log:
    print(*arguments[4:7], file=log)
match arguments[4:]:
    case ["apply", "--filename", file]:
        wanted = re.search(r"image: (\\S+)", pathlib.Path(file).read_text())[1]
        if "refused" in wanted:
            sys.exit("error: refused")
        if wanted != image:
            state.write_text(" ".join([*revisions, f"{{len(revisions) + 1}}={{wanted}}"]))
    case ["get", "deployment/cats-vs-dogs", *_] if revisions:
        print(revisions[-1].partition("=")[0], end="")
    case ["rollout", "status", *_]:
        sys.exit("error: timed out waiting for the condition" if "stuck" in image else 0)
    case ["rollout", "undo", _, "--to-revision", number]:
        back = dict(revision.split("=") for revision in revisions)[number]
        state.write_text(" ".join([*revisions, f"{{len(revisions) + 1}}={{back}}"]))
    case ["port-forward", *_]:
        port = os.environ["GOOD" if "good" in image else "BAD"]
        print(f"Forwarding from 127.0.0.1:{{port}} -> 8080", flush=True)
        time.sleep(60)
"""


class Cluster:
    def __init__(self, folder: Path, good: int) -> None:
        self.state, self.log = folder / "state", folder / "log"
        kubectl = folder / "bin" / "kubectl"
        kubectl.parent.mkdir()
        kubectl.write_text(KUBECTL.format(python=sys.executable, kubectl=shutil.which("kubectl")))
        kubectl.chmod(0o755)
        self.env = os.environ | {
            "PATH": f"{kubectl.parent}:{os.environ['PATH']}",
            "STATE": str(self.state), "LOG": str(self.log), "CONTEXT": "somewhere",
            "GOOD": str(good), "BAD": str(free_port()), "WAIT_SECONDS": "1",
        }  # fmt: skip

    def deploy(self, image: str, *options: str) -> tuple[int, str]:
        command = [ROOT / "scripts" / "deploy_k8s.sh", "--context", "somewhere", "--image", image, *options]
        done = subprocess.run(command, env=self.env, capture_output=True, text=True, timeout=HANG_S)
        return done.returncode, done.stderr.splitlines()[-1] if done.stderr else ""

    @property
    def images(self) -> list[str]:
        return [revision.partition("=")[2] for revision in self.state.read_text().split()]


@pytest.fixture(scope="module")
def port() -> Iterator[int]:
    with running(LOG_LEVEL="error") as service:
        service.wait()
        yield service.port


@pytest.fixture
def cluster(tmp_path, port) -> Iterator[Cluster]:
    before = {*(ROOT / "deploy" / "k8s" / "overlays").iterdir()}
    yield Cluster(tmp_path, port)
    assert {*(ROOT / "deploy" / "k8s" / "overlays").iterdir()} == before


def test_a_good_one_stays(cluster) -> None:
    assert cluster.deploy("registry.example/app:good1") == (0, "")
    assert cluster.deploy("registry.example/app:good2", "--overlay", "production")[0] == 0
    assert cluster.images == ["registry.example/app:good1", "registry.example/app:good2"]
    assert "rollout undo" not in cluster.log.read_text()


@pytest.mark.parametrize("image", ["app:wrong", "app:stuck-good"])
def test_a_bad_one_goes_back(cluster, image) -> None:
    assert cluster.deploy("app:good") == (0, "")
    code, last = cluster.deploy(image)
    assert (code, last) == (1, f"FAILED: {image} doesn't serve; revision 1 does again")
    assert cluster.images == ["app:good", image, "app:good"]


def test_a_wrong_model_goes_back(cluster) -> None:
    assert cluster.deploy("app:good1") == (0, "")
    model = ("--model-url", "https://example.org/model.pt", "--model-sha256", "0" * 64)
    code, last = cluster.deploy("app:good2", *model)
    assert (code, last) == (1, "FAILED: app:good2 doesn't serve; revision 1 does again")
    cluster.env |= {"EXPECTED_VERSION": "newer", "EXPECTED_SHA256": "0" * 64}  # none of the former model
    assert cluster.deploy("app:good3")[0] == 1


def test_nothing_to_go_back_to(cluster) -> None:
    code, last = cluster.deploy("app:wrong")
    assert (code, last) == (2, "FAILED: app:wrong doesn't serve, and nothing did before")
    code, last = cluster.deploy("app:stuck")
    assert (code, last) == (2, "FAILED: app:stuck doesn't serve, and neither does revision 1")


def test_what_the_cluster_refuses_changes_nothing(cluster) -> None:
    assert cluster.deploy("app:good") == (0, "")
    code, last = cluster.deploy("app:refused")
    assert (code, last) == (1, "FAILED: app:refused is not deployed; revision 1 is left as it was")
    assert cluster.images == ["app:good"]


@pytest.mark.parametrize(
    "options",
    [
        ("--image",),
        ("--image", "a b"),
        ("--image", "x', value: y}"),
        ("--timeout", "1m"),
        ("--overlay", "none"),
        ("--model-url", "ftp://example.org/x"),
        ("--model-url", "https://example.org/'"),
        ("--model-sha256", "abc"),
        ("--replicas", "3"),
    ],
)
def test_bad_options_change_nothing(cluster, options) -> None:
    code, last = cluster.deploy("app:good", *options)
    assert code == 1
    assert last.startswith("error: ")
    assert not cluster.log.exists()


def test_kind_is_set_up_and_gets_the_image(tmp_path, port) -> None:
    cluster = Cluster(tmp_path, port)
    record = tmp_path / "record"
    for name, answer in (("kind", ""), ("docker", "sha256:600d600d600d600d")):
        tool = tmp_path / "bin" / name
        tool.write_text(f'#!/bin/sh\necho "{name} $*" >>{record}\necho {answer}\n')
        tool.chmod(0o755)
    cluster.env |= {"CONTEXT": "kind-cats-vs-dogs", "CONTAINER": "docker", "BAD": str(port)}
    command = [ROOT / "scripts" / "deploy_k8s.sh"]
    done = subprocess.run(command, env=cluster.env, capture_output=True, text=True, timeout=HANG_S)
    assert done.returncode == 0, done.stderr
    assert [" ".join(line.split()[:3]) for line in record.read_text().splitlines()] == [
        "docker image inspect",
        "kind get clusters",
        "kind create cluster",
        "docker tag cats-vs-dogs",
        "docker save --output",
        "kind load image-archive",
    ]
    assert cluster.images == ["localhost/cats-vs-dogs:600d600d600d"]
