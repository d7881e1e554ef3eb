"""Kubernetes: the manifests of deploy/k8s, applied by kubectl.

Environment: CONTAINER, docker or podman, for kind; and for the smoke test API_KEY and METRICS_TOKEN. Needs
kubectl, and kind unless --context names a cluster.

The overlay decides everything except the image and the variables of the command line, which last until
the next deploy. A deploy removes each variable of `kubectl set env` that it sets too. The Deployment keeps
the revision before, with its image and its ConfigMap, so a rollback returns to it. The smoke test reaches the
service through a port of this machine that is forwarded as long as this runs.

With --canary, the overlay needs the component deploy/k8s/components/canary: an HTTPRoute of the Gateway API
divides the traffic between the Deployment and a second one, which lasts as long as the canary.
"""

import argparse
import contextlib
import json
import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import yaml

from deploy import command
from deploy.engine import ContainerEngine
from deploy.forwarding import Forwarding
from deploy.kubernetes_canary import ANNOTATION, CANARY, NAME, manifests, share_of, weights
from deploy.output import is_secret, quote, say
from deploy.process import run
from deploy.target import DeployError, Deployment, Unfinished, Variables

EXAMPLE = """python -m deploy kubernetes --image cats-vs-dogs    # to kind, which is set up if necessary
  python -m deploy kubernetes --context NAME --overlay production --image ghcr.io/OWNER/REPO:COMMIT"""
OVERLAYS = Path(__file__).parent / "k8s" / "overlays"
_REVISION = "deployment.kubernetes.io/revision"
_FAILED = "cats-vs-dogs/failed"
"""On a ReplicaSet: the revision that it had when it was given up."""
_APPLIED = "kubectl.kubernetes.io/last-applied-configuration"


def configure(parser: argparse.ArgumentParser) -> None:
    """Add the arguments."""
    command.configure(parser)
    parser.add_argument("--context", default="", help="context of kubectl (default: that of kind's cluster)")
    parser.add_argument(
        "--overlay", default="kind", help="a folder of deploy/k8s/overlays, or a path (default: kind)"
    )
    parser.add_argument("--cluster", default=NAME, help=f"name of kind's cluster (default: {NAME})")


def main(arguments: argparse.Namespace) -> int:
    """Deploy or roll back."""
    return command.run(arguments, Kubernetes)


class Kubernetes:
    """The Deployment of one cluster."""

    def __init__(self, environ: Mapping[str, str], options: argparse.Namespace) -> None:
        """Check the options; raise DeployError if one is wrong, or if a program is missing."""
        self._environ, self._timeout_s = environ, options.timeout
        self._kind = "" if options.context else options.cluster
        self._context = options.context or f"kind-{options.cluster}"
        folder = Path("." if "/" in options.overlay else OVERLAYS)
        self._overlay = (folder / options.overlay).resolve()
        if not (self._overlay / "kustomization.yaml").is_file():
            raise DeployError(f"--overlay: {self._overlay}/kustomization.yaml does not exist")
        for program in ("kubectl", *(["kind"] if self._kind else [])):
            if not shutil.which(program):
                raise DeployError(f"{program} is not installed")
        self._staged = False
        self._where = (f"--context={self._context}", f"--namespace={NAME}")
        self._forwarding = Forwarding(self._where)
        self._url = self._revision = ""
        self._candidate: tuple[str, Variables] | None = None  # image and variables
        self._unfinished: Unfinished | None = None

    def current(self) -> Deployment | None:
        """Return the Deployment's revision, or the previous one if `promote` was cut off. See `Target`."""
        if self._kind and not self._has_kind_cluster():
            return None
        live = self._get(f"deployment/{NAME}")
        if not live:
            return None
        with contextlib.suppress(DeployError):  # nothing answers if all its pods are broken
            self._url = self._forwarding.to(NAME)
        deployment = self._deployment(live)
        self._revision = deployment.id
        candidate = _canary_of(self._get(f"deployment/{CANARY}"))
        if candidate and candidate == _canary_of(live):
            self._unfinished = Unfinished(candidate, 100)
            deployment = self.previous("") or deployment
            self._revision = deployment.id
        elif candidate:
            route = json.loads(self._kubectl("get", f"httproute/{NAME}", "--output=json").stdout)
            self._unfinished = Unfinished(candidate, share_of(route))
        return deployment

    def previous(self, wanted: str) -> Deployment | None:
        """Return the revision before the current one, or the one that is named. See `Target`."""
        made = self._revisions()
        usable = [revision for revision, one in made.items() if _annotations(one).get(_FAILED) != revision]
        earlier = [revision for revision in usable if int(revision) < int(self._revision or 0)]
        chosen = made.get(wanted or max(earlier, key=int, default=""))
        return self._deployment(chosen) if chosen else None

    def stage(self, image: str, variables: Variables) -> str:
        """Apply the manifests and wait until all new pods are ready. See `Target`."""
        self._check(variables)
        if self._kind:
            image = self._load_into_kind(image)
        say(f"{image} to {self._context}")
        self._apply(image, variables)
        return self._rolled_out()

    def unfinished(self) -> Unfinished | None:
        """Return the canary whose Deployment existed when `current` was called. See `SplittingTarget`."""
        return self._unfinished

    def stage_beside(self, image: str, variables: Variables) -> str:
        """Apply a second Deployment, and wait until its pods are ready. See `SplittingTarget`."""
        self._check(variables)
        if self._kind:
            image = self._load_into_kind(image)
        say(f"{image} to {self._context}, beside the live version")
        live = self._get(f"deployment/{NAME}")
        self._candidate = image, variables
        with self._layer(image, variables) as folder:
            rendered = run("kubectl", "kustomize", folder).stdout
            name, replicas = variables.get("DEPLOYMENT") or "", live["spec"].get("replicas", 1)
            beside = manifests(list(yaml.safe_load_all(rendered)), replicas, name)
            Path(folder, "canary.json").write_text(json.dumps(beside), encoding="utf-8")
            self._kubectl("apply", f"--filename={folder}/canary.json")
        return self.resume(image, variables)

    def resume(self, image: str, variables: Variables) -> str:
        """Wait until the second Deployment's pods are ready. See `SplittingTarget`."""
        if self._candidate is None:
            self._candidate = (self._load_into_kind(image) if self._kind else image), variables
        self._roll_out(CANARY)
        return self._forwarding.to(CANARY)

    def split(self, percent: int) -> None:
        """Set the weights of the HTTPRoute. See `SplittingTarget`."""
        patch = json.dumps(weights(percent))
        self._kubectl("patch", f"httproute/{NAME}", "--type=json", f"--patch={patch}")

    def promote(self) -> str:
        """Roll a canary's version out; otherwise do nothing, as new pods get all requests. See `Target`."""
        if self._candidate:
            self._apply(*self._candidate)  # the route is applied too, so the live Deployment gets all traffic
            self._rolled_out()
            self._remove_canary()
        return self._url

    def roll_back(self, to: Deployment | None) -> str:
        """Return to a revision. See `Target`."""
        if self._staged:
            self._explain()
        if to is None:
            return ""
        canary = self._get(f"deployment/{CANARY}")
        if canary:
            self.split(0)
        if self._staged or canary:
            self._give_up_revision(to)
        self._kubectl("rollout", "undo", f"deployment/{NAME}", f"--to-revision={to.id}")
        url = self._rolled_out()
        if canary:  # last, because it tells a second run that `promote` was cut off
            self._remove_canary()
        return url

    def _check(self, variables: Variables) -> None:
        if secrets := [name for name, value in variables.items() if value and is_secret(name)]:
            raise DeployError(
                f"--env {secrets[0]} is a secret: put it into the Secret {NAME} instead "
                "(docs/RUNBOOK.md, Rotate a key)"
            )

    def _apply(self, image: str, variables: Variables) -> None:
        self._staged = True
        with self._layer(image, variables) as folder:
            self._give_up_set_env(Path(folder))
            self._kubectl("apply", f"--kustomize={folder}")

    def _give_up_set_env(self, layer: Path) -> None:
        """Have the next apply remove the variables of `kubectl set env` that this layer sets too.

        Otherwise they would override the ConfigMap, because apply removes only what was applied before.
        """
        live = self._get(f"deployment/{NAME}")
        applied = json.loads(_annotations(live).get(_APPLIED, "{}"))
        if not applied:
            return
        env, env_applied = (_container(one).get("env") or [] for one in (live, applied))
        rendered = yaml.safe_load_all(run("kubectl", "kustomize", str(layer)).stdout)
        configured = {name for one in rendered if one["kind"] == "ConfigMap" for name in one.get("data", ())}
        given_up = [one for one in env if one not in env_applied and one["name"] in configured]
        if given_up:
            names = ", ".join(sorted(one["name"] for one in given_up))
            say(f"removed these variables, which kubectl set env had set: {names}")
            _container(applied)["env"] = env_applied + given_up
            file = layer / "applied.json"
            patch = {"metadata": {"annotations": {_APPLIED: json.dumps(applied)}}}
            file.write_text(json.dumps(patch), encoding="utf-8")  # a value may be a secret
            self._kubectl("patch", f"deployment/{NAME}", "--type=merge", f"--patch-file={file}")

    @contextlib.contextmanager
    def _layer(self, image: str, variables: Variables) -> Iterator[str]:
        """Yield a folder with a layer above the overlay that has this image and these variables."""
        with tempfile.TemporaryDirectory() as folder:
            layer = json.dumps(self._kustomization(Path(folder), image, variables))
            Path(folder, "kustomization.yaml").write_text(layer, encoding="utf-8")
            yield folder

    def _give_up_revision(self, to: Deployment) -> None:
        """Mark what is live, unless it is `to`, as failed: no rollback without an id goes to it."""
        with contextlib.suppress(DeployError):  # the right to change ReplicaSets may be missing
            revision = _revision_of(self._get(f"deployment/{NAME}"))
            if revision != to.id and (failed := self._revisions().get(revision)):
                name = f"replicaset/{failed['metadata']['name']}"
                self._kubectl("annotate", name, f"{_FAILED}={revision}", "--overwrite")

    def _revisions(self) -> dict[str, dict[str, Any]]:
        """Return the ReplicaSet of each revision that the cluster keeps."""
        selector = f"--selector=app.kubernetes.io/name={NAME}"
        answer = self._kubectl("get", "replicasets", selector, "--output=json")
        return {_revision_of(one): one for one in json.loads(answer.stdout)["items"]}

    def _remove_canary(self) -> None:
        names = (f"deployment/{CANARY}", f"networkpolicy/{CANARY}")
        self._kubectl("delete", *names, "--ignore-not-found")

    def _roll_out(self, name: str) -> None:
        limit = f"--timeout={self._timeout_s:.0f}s"
        seconds = self._timeout_s + 60
        self._kubectl("rollout", "status", f"deployment/{name}", limit, seconds=seconds, cancellable=True)

    def _rolled_out(self) -> str:
        self._roll_out(NAME)
        self._url = self._forwarding.to(NAME)
        return self._url

    def _deployment(self, resource: dict[str, Any]) -> Deployment:
        """Return a Deployment or ReplicaSet of Kubernetes as one of ours."""
        return Deployment(_revision_of(resource), _container(resource)["image"], self._url)

    def _kustomization(self, folder: Path, image: str, variables: Variables) -> dict[str, Any]:
        """Return a layer above the overlay with this image and these variables, to be put into a folder."""
        patch: list[dict[str, Any]] = [
            {"op": "replace", "path": "/spec/template/spec/containers/0/image", "value": image}
        ]
        if deployment := variables.get("DEPLOYMENT"):
            patch.append({"op": "add", "path": "/metadata/annotations", "value": {ANNOTATION: deployment}})
        literals = [f"{name}={value or ''}" for name, value in variables.items()]  # empty counts as unset
        config = {"name": NAME, "namespace": NAME, "behavior": "merge", "literals": literals}
        return {
            "resources": [
                os.path.relpath(self._overlay, folder.resolve())
            ],  # kustomize accepts no absolute path
            "patches": [{"target": {"kind": "Deployment", "name": NAME}, "patch": json.dumps(patch)}],
            "configMapGenerator": [config],
        }

    def _has_kind_cluster(self) -> bool:
        return self._kind in self._run_kind("get", "clusters").stdout.split()

    def _run_kind(self, *arguments: str) -> "subprocess.CompletedProcess[str]":
        podman = Path(ContainerEngine(self._environ).command).name == "podman"
        env = dict(os.environ) | ({"KIND_EXPERIMENTAL_PROVIDER": "podman"} if podman else {})
        return run("kind", *arguments, env=env, cancellable=True)

    def _load_into_kind(self, image: str) -> str:
        """Load a local image into kind's cluster, which is created if necessary; return its name there.

        The name is that of the image's content, so a new image has a new name and is rolled out.
        """
        engine = ContainerEngine(self._environ)
        digest = engine.run("image", "inspect", "--format={{.Id}}", image).stdout.strip()
        name = f"localhost/{NAME}:{digest.removeprefix('sha256:')[:12]}"
        if not self._has_kind_cluster():
            say(f"creating the cluster {self._kind}")
            self._run_kind("create", "cluster", "--name", self._kind, "--wait=180s")
        engine.run("tag", image, name)
        with tempfile.TemporaryDirectory() as folder:
            archive = f"{folder}/image.tar"
            engine.run("save", "--output", archive, name, cancellable=True)
            self._run_kind("load", "image-archive", archive, "--name", self._kind)
        return name

    def _get(self, name: str) -> dict[str, Any]:
        """Return an object of the cluster; empty: there is none."""
        answer = self._kubectl("get", name, "--ignore-not-found", "--output=json").stdout
        found: dict[str, Any] = json.loads(answer) if answer.strip() else {}
        return found

    def _kubectl(self, *arguments: str, **options: Any) -> "subprocess.CompletedProcess[str]":
        return run("kubectl", *arguments, *self._where, **options)

    def _explain(self) -> None:
        """Print what Kubernetes knows about a failure; if it does not answer, print nothing."""
        for question in (
            ("get", "pods", "--output=wide"),
            ("get", "events", "--field-selector=type=Warning", "--sort-by=lastTimestamp"),
            ("logs", f"deployment/{NAME}", "--all-containers", "--tail=10"),
        ):
            with contextlib.suppress(DeployError):
                for line in self._kubectl(*question, check=False, seconds=30).stdout.splitlines()[-10:]:
                    quote(line)


def _container(resource: dict[str, Any]) -> dict[str, Any]:
    """Return the service's container in a Deployment or ReplicaSet."""
    container: dict[str, Any] = resource["spec"]["template"]["spec"]["containers"][0]
    return container


def _canary_of(deployment: dict[str, Any]) -> str:
    """Return the setting DEPLOYMENT of the canary that a Deployment runs, or once was; empty: none."""
    return _annotations(deployment).get(ANNOTATION, "")


def _annotations(resource: dict[str, Any]) -> dict[str, str]:
    return resource.get("metadata", {}).get("annotations") or {}


def _revision_of(resource: dict[str, Any]) -> str:
    """Return the revision of a Deployment or ReplicaSet."""
    return _annotations(resource).get(_REVISION, "0")
