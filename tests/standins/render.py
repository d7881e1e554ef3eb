"""A stand-in of Render's REST API (https://api-docs.render.com) with one image-backed web service.

Deploys run on their own: created, update_in_progress, then live, or a failure after which the deploy before
keeps serving. A deploy uses the variables that the service has when it starts. A rollback uses those of its
target, and does not change the service's.
"""

import hashlib
import re
import threading
import time
from dataclasses import dataclass
from typing import Any

from tests.helpers.waiting import HANG_S
from tests.standins.instances import FakeApp, Instance, Run
from tests.standins.provider import Answer, Provider, Request, now

UNDER_WAY = ("created", "queued", "build_in_progress", "update_in_progress")


@dataclass
class Deploy:
    id: str
    image: str
    env: dict[str, str]
    trigger: str
    created: str
    status: str = "created"
    canceled: bool = False

    def to_json(self) -> dict[str, Any]:
        return {
            "id": self.id,
            "image": {"ref": self.image, "sha": f"sha256:{hashlib.sha256(self.image.encode()).hexdigest()}"},
            "status": self.status,
            "trigger": self.trigger,
            "createdAt": self.created,
            "updatedAt": now(),
        }


class Render(Provider):
    prefix = "/v1"
    service = "srv-standin"
    runtime, suspended = "image", "not_suspended"
    policy = "wait"  # for a deploy that overlaps, or "override"
    step_s, start_s = 0.06, HANG_S

    def __init__(
        self,
        run: Run = FakeApp,
        token: str = "rnd_standin",
        image_path: str = "registry.example/cats-vs-dogs",
    ) -> None:
        super().__init__(token)
        self.run, self.image_path = run, image_path
        self.env: dict[str, str] = {}
        self.missing: set[str] = set()  # images that cannot be pulled
        self.deploys: list[Deploy] = []
        self.events: list[dict[str, Any]] = []
        self._instance: Instance | None = None
        self._closed = threading.Event()
        self._turn = threading.Lock()  # one deploy at a time
        self._threads: list[threading.Thread] = []

    def live(self) -> Deploy | None:
        return next((deploy for deploy in self.deploys if deploy.status == "live"), None)

    def deploy(self, image: str, **env: str) -> Deploy:
        """Have an image live, as deployed by the owner of the service."""
        self.env |= env
        with self.lock:
            made = self._begin(image, dict(self.env), "manual")
        while made.status in UNDER_WAY:
            time.sleep(0.005)
        return made

    def close(self) -> None:
        self._closed.set()
        for thread in self._threads:
            thread.join()
        super().close()
        if self._instance:
            self._instance.stop()

    def error(self, status: int, message: str) -> Answer:
        headers = {"Ratelimit-Limit": "100", "Ratelimit-Remaining": "99", "Ratelimit-Reset": "45"}
        return Answer(status, {"id": str(status), "message": message}, headers)

    def answer(self, request: Request) -> Answer:
        path = request.path.removeprefix(f"/services/{self.service}")
        if path == request.path:
            return self.error(404, f"not found: {request.path}")
        for method, pattern, act in (
            ("GET", "", self._service),
            ("GET", "/deploys", self._list),
            ("POST", "/deploys", self._create),
            ("GET", r"/deploys/([\w-]+)", self._get),
            ("POST", r"/deploys/([\w-]+)/cancel", self._cancel),
            ("POST", "/rollback", self._rollback),
            ("GET", "/events", lambda *_: Answer(200, [{"event": e, "cursor": "c"} for e in self.events])),
            ("GET", r"/env-vars/(\w+)", self._variable),
            ("PUT", r"/env-vars/(\w+)", self._set_variable),
            ("DELETE", r"/env-vars/(\w+)", self._remove_variable),
        ):
            match = re.fullmatch(pattern, path)
            if match and method == request.method:
                return act(request, *match.groups())
        return self.error(404, f"not found: {request.method} {request.path}")

    def _service(self, _request: Request) -> Answer:
        details = {
            "runtime": self.runtime,
            "url": self.front.url,
            "healthCheckPath": "/ready",
        }
        service = {
            "id": self.service,
            "type": "web_service",
            "name": "cats-vs-dogs",
            "imagePath": f"{self.image_path}:latest",
            "suspended": self.suspended,
            "dashboardUrl": f"https://dashboard.render.com/web/{self.service}",
            "serviceDetails": details,
        }
        return Answer(200, service)

    def _list(self, request: Request) -> Answer:
        limit = int(dict(request.query).get("limit", "20"))
        newest = sorted(self.deploys, key=lambda deploy: deploy.created, reverse=True)[:limit]
        return Answer(200, [{"deploy": deploy.to_json(), "cursor": deploy.id} for deploy in newest])

    def _create(self, request: Request) -> Answer:
        image = (request.body or {}).get("imageUrl", f"{self.image_path}:latest")
        if re.split(r"[:@](?!.*/)", image)[0] != self.image_path:
            message = "invalid imageUrl: host, repository, and image name must match the service's image"
            return self.error(400, message)
        queued = any(deploy.status in UNDER_WAY for deploy in self.deploys)
        deploy = self._begin(image, dict(self.env), "api")
        return Answer(202) if queued else Answer(201, deploy.to_json())

    def _rollback(self, request: Request) -> Answer:
        deploy = self._find(request.body["deployId"])
        if deploy is None:
            return self.error(404, "not found: deploy")
        if deploy.status not in ("live", "deactivated"):
            return self.error(400, f"cannot roll back to a deploy with status {deploy.status}")
        return Answer(201, self._begin(deploy.image, deploy.env, "rollback").to_json())

    def _get(self, _request: Request, name: str) -> Answer:
        deploy = self._find(name)
        return Answer(200, deploy.to_json()) if deploy else self.error(404, "not found: deploy")

    def _cancel(self, _request: Request, name: str) -> Answer:
        deploy = self._find(name)
        if deploy is None or deploy.status not in UNDER_WAY:
            return self.error(400, "deploy is not cancelable")
        deploy.status, deploy.canceled = "canceled", True
        return Answer(200, deploy.to_json())

    def _variable(self, _request: Request, name: str) -> Answer:
        if name not in self.env:
            return self.error(404, f"not found: env var {name}")
        return Answer(200, {"key": name, "value": self.env[name]})

    def _set_variable(self, request: Request, name: str) -> Answer:
        self.env[name] = request.body["value"]
        return Answer(200, {"key": name, "value": self.env[name]})

    def _remove_variable(self, _request: Request, name: str) -> Answer:
        return Answer(204) if self.env.pop(name, None) is not None else self.error(404, "not found: env var")

    def _find(self, name: str) -> Deploy | None:
        return next((deploy for deploy in self.deploys if deploy.id == name), None)

    def _begin(self, image: str, env: dict[str, str], trigger: str) -> Deploy:
        if self.policy == "override":
            for other in self.deploys:
                if other.status in UNDER_WAY:
                    other.status, other.canceled = "canceled", True
        deploy = Deploy(f"dep-{len(self.deploys):04}", image, env, trigger, now())
        self.deploys.append(deploy)
        thread = threading.Thread(target=self._carry_out, args=(deploy,))
        self._threads.append(thread)
        thread.start()
        return deploy

    def _carry_out(self, deploy: Deploy) -> None:
        with self._turn:
            self.gate.wait(HANG_S)
            self._step(deploy, "update_in_progress")
            try:
                if deploy.image in self.missing:
                    raise RuntimeError(f"{deploy.image}: manifest unknown")
                instance = self.run(deploy.image, deploy.env)
            except RuntimeError as error:
                self._event("image_pull_failed", imageURL=deploy.image, message=str(error))
                self._step(deploy, "update_failed")
                return
            began, state = time.monotonic(), "starting"
            while not self._closed.is_set() and not deploy.canceled:
                if time.monotonic() > began + self.start_s:  # a test may shorten it meanwhile
                    break
                state = instance.state()
                if state != "starting":
                    break
                self._closed.wait(self.step_s)
            self._closed.wait(self.step_s)
            with self.lock:
                if state == "ready" and not deploy.canceled:
                    former, self._instance = self._instance, instance
                    self.front.instance = instance
                    for other in self.deploys:
                        if other.status == "live":
                            other.status = "deactivated"
                    deploy.status = "live"
                else:
                    former = instance
                    failure: dict[str, Any] = {"evicted": False}
                    failure |= (
                        {"timedOutSeconds": int(self.start_s)}
                        if state == "starting"
                        else {"unhealthy": state}
                    )
                    self._event("deploy_ended", deployId=deploy.id, reason={"failure": failure}, status=3)
                    if not deploy.canceled:
                        deploy.status = "update_failed"
            if former:
                self.front.drain(former)
                former.stop()

    def _step(self, deploy: Deploy, status: str) -> None:
        self._closed.wait(self.step_s)
        with self.lock:
            if not deploy.canceled:
                deploy.status = status

    def _event(self, kind: str, **details: Any) -> None:
        event = {"id": f"evt-{len(self.events)}", "timestamp": now(), "type": kind, "details": details}
        self.events.insert(0, event)
