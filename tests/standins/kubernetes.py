"""A stand-in of a cluster with one Deployment, and of the kubectl that reaches it.

The kubectl is a script that sends its arguments to this process. This process lets the real kubectl render
the manifests. A forwarded port is one of the script's, and so ends with it.

As in Kubernetes: a changed pod template makes a new ReplicaSet with the next revision, the old pods serve
until the new ones are ready, and `rollout undo` gives the old template the next revision. An entry of the
container's `env` overrides the ConfigMap, and `apply` removes only those of the configuration applied last.
Unlike in Kubernetes, nothing goes on unless `rollout status` asks.
"""

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml

from tests.standins.instances import FakeApp, Instance
from tests.standins.provider import Answer, Provider, Request

CONTEXT = "somewhere"
REVISION = "deployment.kubernetes.io/revision"
APPLIED = "kubectl.kubernetes.io/last-applied-configuration"
TOKEN = "kubeconfig"
KUBECTL = """#!{python} -IS
# Called hundreds of times in a run of the tests, so it imports little.
import json, os, re, socket, sys, time
arguments = sys.argv[1:]
if arguments[0] == "kustomize":
    os.execv({real!r}, [{real!r}, *arguments])
assert "--namespace=cats-vs-dogs" in arguments, arguments
words = [argument for argument in arguments if not argument.startswith("-")]
limit = next((a.partition("=")[2] for a in arguments if a.startswith("--timeout=")), "60s")
until = time.monotonic() + float(limit.removesuffix("s"))
path = {path!r} + "/" + "/".join(words[:2] if words[0] == "rollout" else words[:1])
sent = json.dumps(arguments).encode()
headers = f"Authorization: Bearer {token}\\r\\nContent-Length: {{len(sent)}}\\r\\n"
while True:
    try:
        with socket.create_connection({address!r}) as connection:
            connection.sendall(f"POST {{path}} HTTP/1.0\\r\\n{{headers}}\\r\\n".encode() + sent)
            head, end, body = b"".join(iter(lambda: connection.recv(65536), b"")).partition(b"\\r\\n\\r\\n")
    except OSError:
        end = b""
    if not end:
        sys.exit("error: the connection to the server was refused")
    status, body = int(head.split()[1]), json.loads(body)
    if status >= 400:
        sys.exit("error: " + body["message"])
    if status != 202:
        break
    if time.monotonic() > until:
        sys.exit("error: timed out waiting for the condition")
    time.sleep(0.02)
if words[0] != "port-forward":
    print(body, flush=True)
    sys.exit()
import signal, threading
signal.alarm(300)  # whoever started it may have been killed
server = socket.create_server(("127.0.0.1", 0))
print(re.sub(":[0-9]+ ", f":{{server.getsockname()[1]}} ", body), flush=True)
pod = int(re.search(":([0-9]+) ", body)[1])
def copy(source, sink):
    try:
        while data := source.recv(65536):
            sink.sendall(data)
        sink.shutdown(socket.SHUT_WR)
    except OSError:
        pass
while True:
    client, _ = server.accept()
    connection = socket.create_connection(("127.0.0.1", pod))  # this ends when the pod has
    for pair in ((client, connection), (connection, client)):
        threading.Thread(target=copy, args=pair, daemon=True).start()
"""


@dataclass
class Revision:
    """One ReplicaSet."""

    image: str
    env: dict[str, str]
    instance: Instance
    own_env: dict[str, str] = field(default_factory=dict)  # the part that is not from the ConfigMap
    numbers: list[int] = field(default_factory=list)
    marks: dict[str, str] = field(default_factory=dict)  # annotations of the ReplicaSet itself
    annotations: dict[str, str] = field(default_factory=dict)  # of the Deployment; `undo` brings them back

    def to_json(self) -> dict[str, Any]:
        own_env = [{"name": name, "value": value} for name, value in self.own_env.items()]
        return {
            "metadata": {
                "name": f"cats-vs-dogs-{self.numbers[0]}",
                "annotations": {REVISION: str(self.numbers[-1])} | self.marks,
            },
            "spec": {"template": {"spec": {"containers": [{"image": self.image, "env": own_env}]}}},
        }


@dataclass
class Candidate:
    """The second Deployment."""

    image: str
    annotations: dict[str, str]
    instance: Instance

    def to_json(self) -> dict[str, Any]:
        return {"metadata": {"annotations": self.annotations}}


class Kubernetes(Provider):
    def __init__(self, folder: Path) -> None:
        super().__init__(TOKEN)
        self.revisions: list[Revision] = []
        self.live: Revision | None = None  # whose pods get the requests
        self.context = CONTEXT
        self.images: dict[str, str] = {}  # of each Deployment, as it was applied
        self.candidate: Candidate | None = None  # the second Deployment
        self.weights = [100, 0]  # of the route
        self.splits: list[int] = []  # shares that the candidate has got
        self.applied = ""  # the Deployment as it was applied last, in JSON
        self._last = 0
        self.wanted: Revision | None = None  # by the Deployment's template
        self.folder = folder / "bin"
        self.folder.mkdir()
        kubectl = self.folder / "kubectl"
        kubectl.write_text(
            KUBECTL.format(
                python=sys.executable,
                address=self._server.server_address,
                path=self.prefix,
                token=TOKEN,
                real=shutil.which("kubectl"),
            )
        )
        kubectl.chmod(0o755)

    def close(self) -> None:
        super().close()
        for one in (*self.revisions, *([self.candidate] if self.candidate else [])):
            one.instance.stop()

    def error(self, status: int, message: str) -> Answer:
        return Answer(status, {"message": message})

    def answer(self, request: Request) -> Answer:
        arguments: list[str] = request.body
        if f"--context={self.context}" not in arguments:
            return self.error(500, "context does not exist")
        match request.path.strip("/").split("/"), arguments:
            case ["apply"], ["apply", option, *_] if option.startswith("--filename="):
                return self._apply_canary(json.loads(Path(option.removeprefix("--filename=")).read_text()))
            case ["get"], ["get", "deployment/cats-vs-dogs-canary", *_]:
                return Answer(200, json.dumps(self.candidate.to_json()) if self.candidate else "")
            case ["get"], ["get", "httproute/cats-vs-dogs", *_]:
                refs = [{"weight": weight} for weight in self.weights]
                return Answer(200, json.dumps({"spec": {"rules": [{"backendRefs": refs}]}}))
            case ["patch"], ["patch", "httproute/cats-vs-dogs", "--type=json", patch, *_]:
                patches = json.loads(patch.removeprefix("--patch="))
                assert [one["path"].split("/")[-2] for one in patches] == ["0", "1"]
                self.weights = [one["value"] for one in patches]
                self.splits.append(self.weights[1])
                return Answer(200, "httproute.gateway.networking.k8s.io/cats-vs-dogs patched")
            case ["patch"], ["patch", "deployment/cats-vs-dogs", "--type=merge", option, *_]:
                patch = json.loads(Path(option.removeprefix("--patch-file=")).read_text())
                self.applied = patch["metadata"]["annotations"][APPLIED]
                return Answer(200, "deployment.apps/cats-vs-dogs patched")
            case ["annotate"], ["annotate", name, mark, "--overwrite", *_]:
                (marked,) = (
                    r for r in self.revisions if f"replicaset/{r.to_json()['metadata']['name']}" == name
                )
                marked.marks |= [mark.split("=")]
                return Answer(200, f"{name} annotated")
            case ["delete"], ["delete", "deployment/cats-vs-dogs-canary", *_]:
                assert self.candidate
                self.candidate.instance.stop()
                self.candidate = None
                return Answer(200, "deployment.apps/cats-vs-dogs-canary deleted")
            case ["rollout", "status"], [_, _, "deployment/cats-vs-dogs-canary", *_]:
                return Answer(200, "successfully rolled out")
            case ["port-forward"], ["port-forward", "service/cats-vs-dogs-canary", ":80", *_]:
                assert self.candidate
                return Answer(200, f"Forwarding from 127.0.0.1:{self.candidate.instance.port} -> 8080")
            case ["apply"], ["apply", option, *_]:
                return self._apply(option.removeprefix("--kustomize="))
            case ["get"], ["get", "deployment/cats-vs-dogs", "--ignore-not-found", *_]:
                return Answer(200, json.dumps(self._deployment()) if self.wanted else "")
            case ["get"], ["get", "replicasets", "--selector=app.kubernetes.io/name=cats-vs-dogs", *_]:
                return Answer(200, json.dumps({"items": [r.to_json() for r in self.revisions]}))
            case ["rollout", "status"], _:
                return self._status()
            case ["rollout", "undo"], [_, _, "deployment/cats-vs-dogs", option, *_]:
                return self._undo(int(option.removeprefix("--to-revision=")))
            case ["port-forward"], ["port-forward", "service/cats-vs-dogs", ":80", *_]:
                if self.live is None:
                    return self.error(500, "unable to forward port because pod is not running")
                return Answer(200, f"Forwarding from 127.0.0.1:{self.live.instance.port} -> 8080")
            case [("get" | "logs")], _:
                return Answer(200, f"about {arguments[1]}")
        return self.error(400, f"unknown command {arguments}")

    def make(self, image: str, config: dict[str, str], own_env: dict[str, str] | None = None) -> None:
        """Have the Deployment run this, as an apply does."""
        own_env = own_env or {}
        new = image, config | own_env, own_env
        same = next((r for r in self.revisions if (r.image, r.env, r.own_env) == new), None)
        if same is None:
            same = Revision(image, new[1], FakeApp(image, new[1]), own_env)
            self.revisions.append(same)
        if same is not self.wanted:
            self._last += 1
            same.numbers.append(self._last)
        self.wanted = same

    def set_env(self, **env: str) -> None:
        """Set variables as `kubectl set env` does."""
        assert self.wanted
        self.make(self.wanted.image, self.wanted.env, self.wanted.own_env | env)
        self.live = self.wanted

    def _deployment(self) -> dict[str, Any]:
        assert self.wanted
        document = self.wanted.to_json()
        document["metadata"]["annotations"] |= self.wanted.annotations
        if self.applied:
            document["metadata"]["annotations"][APPLIED] = self.applied
        document["spec"]["replicas"] = 2
        return document

    def _apply(self, folder: str) -> Answer:
        manifests = subprocess.check_output(["kubectl", "kustomize", folder])
        documents = {(d["kind"], d["metadata"]["name"]): d for d in yaml.safe_load_all(manifests)}
        pods = {name: d["spec"]["template"] for (kind, name), d in documents.items() if kind == "Deployment"}
        self.images = {name: pod["spec"]["containers"][0]["image"] for name, pod in pods.items()}
        self.weights = [100, 0]  # if the overlay has a route
        (container,) = _containers(documents["Deployment", "cats-vs-dogs"])
        config = documents["ConfigMap", container["envFrom"][0]["configMapRef"]["name"]]
        (applied,) = _containers(json.loads(self.applied)) if self.applied else [{}]
        removed = {entry["name"] for entry in applied.get("env", [])}
        own_env = self.wanted.own_env if self.wanted else {}
        kept = {name: value for name, value in own_env.items() if name not in removed}
        self.make(container["image"], config["data"], kept)
        assert self.wanted
        deployment = documents["Deployment", "cats-vs-dogs"]
        self.wanted.annotations = deployment["metadata"].get("annotations", {})
        self.applied = json.dumps(deployment)
        return Answer(200, "deployment.apps/cats-vs-dogs configured")

    def _apply_canary(self, documents: dict[str, Any]) -> Answer:
        """Apply the second Deployment; it starts at once."""
        named = {(d["kind"], d["metadata"]["name"]): d for d in documents["items"]}
        assert ("HTTPRoute", "cats-vs-dogs") in named
        assert ("Deployment", "cats-vs-dogs") not in named
        deployment = named["Deployment", "cats-vs-dogs-canary"]
        (container,) = deployment["spec"]["template"]["spec"]["containers"]
        env = named["ConfigMap", container["envFrom"][0]["configMapRef"]["name"]]["data"]
        image = container["image"]
        self.candidate = Candidate(image, deployment["metadata"]["annotations"], FakeApp(image, env))
        self.weights = [100, 0]
        return Answer(200, "deployment.apps/cats-vs-dogs-canary created")

    def _status(self) -> Answer:
        assert self.wanted
        state = self.wanted.instance.state()
        if state == "starting" or not self.gate.is_set():
            return Answer(202, "Waiting for deployment rollout to finish")
        if state != "ready":
            return self.error(500, 'deployment "cats-vs-dogs" exceeded its progress deadline')
        self.live = self.wanted
        return Answer(200, "successfully rolled out")

    def _undo(self, number: int) -> Answer:
        for revision in self.revisions:
            if revision.numbers[-1] == number:
                self.make(revision.image, revision.env, revision.own_env)
                return Answer(200, "deployment.apps/cats-vs-dogs rolled back")
        return self.error(404, f"unable to find specified revision {number} in history")


def _containers(deployment: dict[str, Any]) -> list[dict[str, Any]]:
    containers: list[dict[str, Any]] = deployment["spec"]["template"]["spec"]["containers"]
    return containers
