"""A stand-in of Cloud Run's Admin API v2 with one service.

As documented: an update returns an operation, and the service is `reconciling` until it has ended. The
update's etag must be the service's. A template creates a revision, whose name must be new; if it does not get
ready, the service's condition is failed and the traffic stays. Operations are not served: nothing asks.
"""

import copy
import re
import threading
import time
from dataclasses import dataclass, field
from typing import Any

from tests.helpers.waiting import HANG_S
from tests.standins.instances import FakeApp, Front, Instance
from tests.standins.provider import Answer, Provider, Request

LATEST, REVISION = "TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST", "TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION"
LOGS = "https://console.cloud.google.com/logs/viewer?project=demo&resource=cloud_run_revision"
CODES = {
    400: "INVALID_ARGUMENT",
    401: "UNAUTHENTICATED",
    403: "PERMISSION_DENIED",
    404: "NOT_FOUND",
    409: "ABORTED",
}


@dataclass
class Revision:
    name: str
    template: dict[str, Any]
    instance: Instance
    ready: bool = False
    front: Front = field(default_factory=Front)  # of its tag

    def env(self) -> dict[str, str]:
        entries = self.template["containers"][0].get("env", [])
        return {entry["name"]: entry.get("value", "") for entry in entries}


class CloudRun(Provider):
    prefix = "/v2"
    short = "cats-vs-dogs"
    name = f"projects/demo/locations/europe-west1/services/{short}"
    step_s, start_s = 0.06, HANG_S

    def __init__(self, token: str) -> None:
        super().__init__(token)
        self.exists = True
        self.revisions: dict[str, Revision] = {}
        self.template: dict[str, Any] = {}
        self.traffic: list[dict[str, Any]] = [{"type": LATEST, "percent": 100}]  # the wanted traffic
        self.statuses: list[dict[str, Any]] = []  # the actual traffic
        self.generation = 0
        self.reconciling = False
        self.failure = ""
        self._threads: list[threading.Thread] = []

    def make(self, image: str, **env: str) -> Revision:
        """Have a revision serve, as created by the owner of the service."""
        entries = [{"name": name, "value": value} for name, value in env.items()]
        template = {
            "containers": [{"image": image, "env": entries, "resources": {"limits": {"memory": "1Gi"}}}]
        }
        self.traffic = [{"type": LATEST, "percent": 100}]
        with self.lock:
            self._update(template | {"timeout": "60s"}, self.traffic)
        while self.reconciling:
            time.sleep(0.005)
        return self.live()

    def live(self) -> Revision:
        """The revision that gets most of the traffic."""
        entry = max(self.statuses, key=lambda status: int(status.get("percent", 0)))
        assert entry.get("percent")
        return self.revisions[entry.get("revision") or self._latest_ready()]

    def tags(self) -> dict[str, str]:
        return {status["tag"]: status["revision"] for status in self.statuses if status.get("tag")}

    def close(self) -> None:
        for thread in self._threads:
            thread.join()
        super().close()
        for revision in self.revisions.values():
            revision.front.close()
            revision.instance.stop()

    def error(self, status: int, message: str) -> Answer:
        body = {"error": {"code": status, "message": message, "status": CODES.get(status, "UNKNOWN")}}
        return Answer(status, body)

    def answer(self, request: Request) -> Answer:
        path = request.path.lstrip("/")
        if path.removeprefix(self.name).startswith("/revisions/") and request.method == "GET":
            revision = self.revisions.get(path.rpartition("/")[2])
            return (
                Answer(200, self._revision(revision))
                if revision
                else self.error(404, f"Resource '{path}' not found.")
            )
        if path != self.name or not self.exists or request.method not in ("GET", "PATCH"):
            return self.error(404, f"Resource '{path}' of kind 'SERVICE' does not exist.")
        return Answer(200, self._service()) if request.method == "GET" else self._patch(request)

    def _etag(self) -> str:
        return f'"{self.generation:04}"'

    def _latest_ready(self) -> str:
        return next((name for name in reversed(self.revisions) if self.revisions[name].ready), "")

    def _service(self) -> dict[str, Any]:
        state = "CONDITION_RECONCILING" if self.reconciling else "CONDITION_FAILED" if self.failure else ""
        condition = {"type": "Ready", "state": state or "CONDITION_SUCCEEDED", "message": self.failure}
        service = {
            "name": self.name,
            "generation": str(self.generation),
            "template": self.template,
            "traffic": self.traffic,
            "trafficStatuses": self.statuses,
            "uri": self.front.url,
            "latestReadyRevision": f"{self.name}/revisions/{self._latest_ready()}",
            "latestCreatedRevision": f"{self.name}/revisions/{next(reversed(self.revisions), '')}",
            "terminalCondition": condition,
            "etag": self._etag(),
        }
        return service | ({"reconciling": True} if self.reconciling else {})

    def _revision(self, revision: Revision) -> dict[str, Any]:
        name = f"{self.name}/revisions/{revision.name}"
        state = "CONDITION_SUCCEEDED" if revision.ready else "CONDITION_FAILED"
        conditions = [{"type": "Ready", "state": state}]
        containers = revision.template["containers"]
        return {
            "name": name,
            "containers": containers,
            "conditions": conditions,
            "logUri": f"{LOGS}/{revision.name}",
        }

    def _patch(self, request: Request) -> Answer:
        body, mask = request.body, dict(request.query).get("updateMask", "")
        fields = set(mask.split(","))
        if not fields <= {"template", "traffic"}:
            return self.error(400, f"updateMask {mask!r}: this stand-in updates template and traffic")
        if body.get("etag", self._etag()) != self._etag():
            theirs, ours = body["etag"], self._etag()
            conflict = f"version {theirs} was specified but current version is {ours}."
            return self.error(409, f"Conflict for resource '{self.short}': {conflict}")
        template = body["template"] if "template" in fields else None
        traffic = [_named(entry) for entry in body["traffic"]] if "traffic" in fields else self.traffic
        if template:
            name = template.get("revision", "")
            if name in self.revisions:
                return self.error(
                    409, f"Revision named '{name}' with different configuration already exists."
                )
            if name and not re.fullmatch(rf"{self.short}-[a-z0-9-]{{1,60}}", name):
                return self.error(400, "template.revision: must begin with the service's name")
        known = {*self.revisions, (template or {}).get("revision")}
        if sum(entry.get("percent", 0) for entry in traffic) != 100:
            return self.error(400, "The traffic percents must sum to 100.")
        if any(entry["type"] == REVISION and entry["revision"] not in known for entry in traffic):
            return self.error(400, "traffic: a revision was not found")
        return Answer(200, self._update(template, traffic))

    def _update(self, template: dict[str, Any] | None, traffic: list[dict[str, Any]]) -> dict[str, Any]:
        self.generation += 1
        self.reconciling = True
        self.traffic = copy.deepcopy(traffic)
        revision = None
        if template:
            self.template = copy.deepcopy(template)
            name = template.get("revision") or f"{self.short}-{self.generation:05}-abc"
            env = {
                entry["name"]: entry.get("value", "") for entry in template["containers"][0].get("env", [])
            }
            revision = Revision(name, self.template, FakeApp(template["containers"][0]["image"], env))
            self.revisions[name] = revision
        thread = threading.Thread(target=self._carry_out, args=(revision, self.generation))
        self._threads.append(thread)
        thread.start()
        return {"name": f"projects/demo/locations/europe-west1/operations/{self.generation}", "done": False}

    def _carry_out(self, revision: Revision | None, generation: int) -> None:
        self.gate.wait(HANG_S)
        time.sleep(self.step_s)
        if revision:
            began, state = time.monotonic(), "starting"
            while state == "starting" and self.generation == generation:
                if time.monotonic() > began + self.start_s:  # a test may shorten it meanwhile
                    break
                state = revision.instance.state()
                time.sleep(self.step_s / 4)
            revision.ready = state == "ready"
            revision.front.instance = revision.instance
        with self.lock:
            newest = self.revisions[next(reversed(self.revisions))]
            failure = ""
            if not newest.ready:
                # Then the service is not ready, whichever revision gets the traffic.
                failure = (
                    f"Revision '{newest.name}' is not ready and cannot serve traffic. The user-provided "
                    "container failed to start and listen on the port defined provided by the PORT=8080 "
                    "environment variable within the allocated timeout. Logs for this revision might contain "
                    "more information.\n\n"
                    f"Logs URL: {LOGS}/{newest.name} \nFor more troubleshooting guidance, see …"
                )
            if self.generation == generation:
                self.failure = failure
                self._route(revision)
                self.reconciling = False

    def _route(self, made: Revision | None) -> None:
        """Route the traffic as it is wanted; a revision that is not ready leaves it as it was."""
        if made and not made.ready:
            return
        self.statuses = []
        for entry in self.traffic:
            tag = {"uri": self.revisions[entry["revision"]].front.url} if entry.get("tag") else {}
            self.statuses.append(entry | tag)
        self.front.instance = self.live().instance


def _named(entry: dict[str, Any]) -> dict[str, Any]:
    """An entry of the traffic whose type may be given by its number."""
    return entry | {"type": {1: LATEST, 2: REVISION}.get(entry["type"], entry["type"])}
