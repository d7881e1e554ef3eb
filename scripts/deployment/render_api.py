"""What is asked of Render's REST API (https://api-docs.render.com/reference)."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from deployment.answers import dig, text
from deployment.api import Api, ApiError
from deployment.target import DeployError

API = "https://api.render.com/v1"
_UNDER_WAY = ("created", "queued", "build_in_progress", "pre_deploy_in_progress", "update_in_progress")


@dataclass(frozen=True)
class Deploy:
    """One deploy of a service, as Render tells of it.

    Attributes:
        id: such as dep-abc123.
        status: `live`; `deactivated` where another one has become live since; `build_failed` and others.
        by_api: whether a request to the API has begun it.
        rollback: whether it is a rollback to another one.
        created: when, in ISO 8601.
        image: its reference.
    """

    id: str
    status: str
    by_api: bool
    rollback: bool
    created: str
    image: str

    @property
    def under_way(self) -> bool:
        """Whether it goes on."""
        return self.status in _UNDER_WAY

    @classmethod
    def of(cls, answer: Any) -> "Deploy":
        """Read the API's answer.

        Raises:
            DeployError: it is no deploy.
        """
        if not text(answer, "id") or not text(answer, "status"):
            raise DeployError("Render's answer is no deploy, as its API documents it")
        trigger = text(answer, "trigger")
        return cls(
            text(answer, "id"),
            text(answer, "status"),
            trigger in ("api", "rollback"),
            trigger == "rollback",
            text(answer, "createdAt"),
            text(answer, "image", "ref"),
        )


class Service:
    """One service; every method raises ApiError where Render refuses or can't be reached."""

    def __init__(self, environ: Mapping[str, str], pause_s: float) -> None:
        """Check the settings; ask nothing yet.

        Args:
            environ: RENDER_API_KEY, RENDER_SERVICE_ID; RENDER_API_URL for another address.
            pause_s: before a request is repeated.

        Raises:
            DeployError: a setting is missing or bad.
        """
        self.id = environ.get("RENDER_SERVICE_ID", "")
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,100}", self.id):
            raise DeployError("RENDER_SERVICE_ID must be set to the service's id, such as srv-abc123")
        base, key = environ.get("RENDER_API_URL") or API, environ.get("RENDER_API_KEY", "")
        self._api = Api("Render", base, key, "RENDER_API_KEY", pause_s)
        self._path = f"/services/{self.id}"
        self.url = ""
        self._dashboard = ""

    def look(self) -> None:
        """Read where it serves.

        Raises:
            DeployError: images can't be deployed to it.
        """
        service = self._api.get(self._path)
        runtime = text(service, "serviceDetails", "runtime") or text(service, "serviceDetails", "env")
        if text(service, "type") != "web_service":
            raise DeployError(f"{self.id} is no web service, but a {text(service, 'type')}")
        if runtime != "image":
            raise DeployError(
                f"{self.id} builds from its repository (runtime {runtime}); images are deployed to a service "
                "of runtime image, as render.yaml describes it"
            )
        if text(service, "suspended") == "suspended":
            raise DeployError(f"{self.id} is suspended; resume it in Render's dashboard")
        self.url = text(service, "serviceDetails", "url")
        self._dashboard = text(service, "dashboardUrl")
        if not re.fullmatch(r"https?://[!-~]+", self.url):
            raise DeployError(f"Render tells no URL of {self.id}")

    def deploys(self) -> list[Deploy]:
        """Return the last hundred deploys, the newest first."""
        answer = self._api.get(f"{self._path}/deploys", limit="100")
        found = [Deploy.of(dig(item, "deploy")) for item in answer or []]
        return sorted(found, key=lambda deploy: deploy.created, reverse=True)

    def deploy(self, name: str) -> Deploy:
        """Return one deploy."""
        return Deploy.of(self._api.get(f"{self._path}/deploys/{name}"))

    def start(self, image: str) -> str:
        """Start a deploy; return its id, empty where Render doesn't tell it (202: behind another one).

        Raises:
            UnclearError: it may have begun.
        """
        return text(self._api.send("POST", f"{self._path}/deploys", {"imageUrl": image}, once=True), "id")

    def start_rollback(self, to: str) -> str:
        """Start a rollback, which is a deploy too; as `start`."""
        return text(self._api.send("POST", f"{self._path}/rollback", {"deployId": to}, once=True), "id")

    def cancel(self, name: str) -> None:
        """Cancel a deploy that is under way."""
        self._api.send("POST", f"{self._path}/deploys/{name}/cancel")

    def variable(self, name: str) -> str | None:
        """Return a variable's value; None where it isn't set."""
        try:
            return text(self._api.get(f"{self._path}/env-vars/{name}"), "value")
        except ApiError as error:
            if error.status == 404:
                return None
            raise

    def set(self, name: str, value: str | None) -> None:
        """Set or remove one variable, never the whole list: it holds the owner's secrets."""
        path = f"{self._path}/env-vars/{name}"
        if value is not None:
            self._api.send("PUT", path, {"value": value})
            return
        try:
            self._api.send("DELETE", path)
        except ApiError as error:
            if error.status != 404:
                raise

    def reason(self, deploy: Deploy) -> str:
        """Return what Render's events tell of a deploy's failure; empty where they tell nothing."""
        try:
            answer = self._api.get(f"{self._path}/events", limit="20")
        except ApiError:
            return ""
        told = []
        for event in (dig(item, "event") for item in answer or []):
            if text(event, "type") == "image_pull_failed" and text(event, "timestamp") >= deploy.created:
                told.append(text(event, "details", "message"))
            elif text(event, "details", "deployId") == deploy.id:
                told.append(_failure(dig(event, "details", "reason", "failure")))
        return "; ".join(filter(None, told))

    def log_url(self, deploy: str) -> str:
        """Return where the log of a deploy can be read."""
        return f"{self._dashboard}/deploys/{deploy}" if self._dashboard else ""


def _failure(failure: Any) -> str:
    """Return a `failureReason` in words."""
    told = [text(failure, "unhealthy"), text(failure, "timedOutReason")]
    if (code := dig(failure, "nonZeroExit")) is not None:
        told.append(f"exit code {code}")
    if limit := text(failure, "oomKilled", "memoryLimit"):
        told.append(f"out of memory, limit {limit}")
    if (seconds := dig(failure, "timedOutSeconds")) is not None:
        told.append(f"timed out after {seconds} s")
    if dig(failure, "earlyExit"):
        told.append("the process ended by itself")
    if dig(failure, "evicted"):
        told.append("evicted")
    return ", ".join(filter(None, told))
