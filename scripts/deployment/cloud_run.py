"""Cloud Run, through its Admin API v2 (https://cloud.google.com/run/docs/reference/rest/v2/projects.locations.services).

A new revision gets no traffic at first, only a tag with a URL of its own; once that has been tested, all traffic
goes to it. A revision keeps its image and variables, so a rollback only moves the traffic. The revision that served
before stays tagged `previous`.
"""  # noqa: E501

import re
import time
from collections.abc import Iterator, Mapping
from typing import Any

from deployment import cloud_run_traffic as traffic
from deployment.answers import dig, text
from deployment.api import Api, ApiError, UnclearError
from deployment.cancellation import CANCELLATION
from deployment.output import say
from deployment.target import DeployError, Deployment, Variables, Wait

API = "https://run.googleapis.com/v2"
_SETTINGS = {
    "GCP_PROJECT": r"[a-z0-9.:-]{1,63}",
    "GCP_REGION": r"[a-z0-9-]{1,40}",
    "CLOUD_RUN_SERVICE": r"[a-z]([a-z0-9-]{0,47}[a-z0-9])?",
}
_UPDATES = 5


class CloudRun:
    """One service on Cloud Run."""

    def __init__(self, environ: Mapping[str, str], timeout_s: float, poll_s: float) -> None:
        """Check the settings; ask nothing yet.

        Args:
            environ: GCP_ACCESS_TOKEN, GCP_PROJECT, GCP_REGION, CLOUD_RUN_SERVICE; CLOUD_RUN_API_URL for
                another address.
            timeout_s: for one update of the service.
            poll_s: between two looks at it.

        Raises:
            DeployError: a setting is missing or bad.
        """
        for name, pattern in _SETTINGS.items():
            if not re.fullmatch(pattern, environ.get(name, "")):
                raise DeployError(f"{name} must be set, to a name as Google Cloud has them")
        project, region, self._service = (environ[name] for name in _SETTINGS)
        self._path = f"/projects/{project}/locations/{region}/services/{self._service}"
        base, token = environ.get("CLOUD_RUN_API_URL") or API, environ.get("GCP_ACCESS_TOKEN", "")
        self._api = Api("Cloud Run", base, token, "GCP_ACCESS_TOKEN", pause_s=poll_s / 5)
        self._timeout_s, self._poll_s = timeout_s, poll_s

    def current(self) -> Deployment | None:
        """Return the revision that gets all traffic. See `Target`."""
        service = self._settled("an update that was begun before is under way: waiting for its end")
        serving = traffic.serving(service)
        return self._deployment(serving, service) if serving else None

    def previous(self, wanted: str) -> Deployment:
        """Return the revision tagged `previous`, or the one that is named. See `Target`."""
        service = self._read()
        name = wanted or traffic.tagged(service, traffic.PREVIOUS)
        if not name:
            raise DeployError(f"no revision is tagged {traffic.PREVIOUS}; name the one to go back to")
        if not re.fullmatch(r"[a-z0-9-]{1,63}", name):
            raise DeployError("a revision's name is made of small letters, digits and hyphens")
        return self._deployment(name, service)

    def deploy(self, image: str, variables: Variables) -> Iterator[str]:
        """Yield the URL of the new revision's tag; once it has the traffic, the service's. See `Target`."""
        service = self._read()
        before = traffic.serving(service)
        revision = f"{self._service}-d{int(time.time() * 1000):x}"
        template = self._template(service, before, image, variables) | {"revision": revision}
        candidate = traffic.to(revision, 0 if before else 100, traffic.CANDIDATE)
        kept = [traffic.to(before, 100)] if before else []
        say(f"{revision}: {image}")
        self._update(
            service, revision, template=template, traffic=[*kept, candidate, *traffic.tags_of_others(service)]
        )
        service = self._read()
        yield traffic.tag_url(service, traffic.CANDIDATE) or traffic.url(service)

        service = self._read()
        # As the latest it gives way to what the owner makes by gcloud later, which else would get no traffic.
        newest = traffic.latest_ready(service) == revision
        serving = traffic.latest() if newest else traffic.to(revision, 100)
        kept = [traffic.to(before, 0, traffic.PREVIOUS)] if before else []
        say(f"{revision} gets the traffic")
        self._update(service, revision, traffic=[serving, *kept, *traffic.tags_of_others(service)])
        yield traffic.url(self._read())

    def roll_back(self, to: Deployment | None) -> str:
        """Give all traffic to `to`. See `Target`."""
        if to is None:
            raise DeployError("there is no revision before this one to go back to")
        say(f"{to.id} gets the traffic")
        failure = DeployError(f"{to.id} doesn't get the traffic")
        for _ in range(_UPDATES):
            service = self._read()
            entries = [traffic.to(to.id, 100), *traffic.tags_of_others(service)]
            try:
                self._update(service, "", traffic=entries)
            except DeployError as error:
                # A conflict with somebody else's update; or the newest revision is broken, and so the service
                # isn't ready, whoever gets the traffic. What counts is who does.
                failure = error
            service = self._settled()
            if traffic.serving(service) == to.id:
                return traffic.url(service)
            CANCELLATION.pause(self._poll_s)
        raise failure

    def _read(self) -> Any:
        try:
            return self._api.get(self._path)
        except ApiError as error:
            if error.status != 404:
                raise
        raise DeployError(
            f"there is no service {self._service}; make it once, with the settings that it is to have: "
            "gcloud run services replace deploy/cloudrun/service.yaml"
        )

    def _settled(self, note: str = "") -> Any:
        """Return the service once nothing is under way."""
        wait = Wait(self._timeout_s, self._poll_s)
        while dig(service := self._read(), "reconciling"):
            wait.report(note or "under way")
            wait.pause()
        return service

    def _deployment(self, revision: str, service: Any) -> Deployment:
        found = self._api.get(f"{self._path}/revisions/{revision}")
        return Deployment(revision, text(found, "containers", 0, "image"), traffic.url(service))

    def _template(self, service: Any, before: str, image: str, variables: Variables) -> dict[str, Any]:
        """Return the service's template with another image and other variables.

        The variables are those of what serves: after a rollback, the template holds what was given up.
        """
        template, containers = dig(service, "template"), dig(service, "template", "containers")
        if not isinstance(containers, list) or len(containers) != 1:
            raise DeployError(f"{self._service} must have one container")
        holder = self._api.get(f"{self._path}/revisions/{before}") if before else template
        env = [e for e in dig(holder, "containers", 0, "env") or [] if text(e, "name") not in variables]
        env += [{"name": name, "value": value} for name, value in variables.items() if value is not None]
        return dict(template) | {"containers": [containers[0] | {"image": image, "env": env}]}

    def _update(self, service: Any, revision: str, **fields: Any) -> None:
        """Change these fields of the service as it was read, and wait until that has taken effect.

        The etag makes the provider refuse where somebody has changed the service since.
        """
        body = {"etag": text(service, "etag")} | fields
        operation = None
        try:
            query = {"updateMask": ",".join(fields)}
            operation = self._api.send("PATCH", self._path, body, query, once=True)
        except UnclearError as error:
            if text(self._read(), "etag") == body["etag"]:
                raise
            say(f"{error}; the service has changed: going on")
        wait = Wait(self._timeout_s, self._poll_s)
        while operation is not None and not dig(operation, "done"):
            wait.report("under way")
            wait.pause()
            operation = self._api.get(f"/{text(operation, 'name')}")
        if message := text(operation, "error", "message"):
            raise self._failure(message, revision)
        condition = dig(self._settled(), "terminalCondition")
        if text(condition, "state") == "CONDITION_FAILED":
            raise self._failure(text(condition, "message"), revision)
        wait.report("ready")

    def _failure(self, message: str, revision: str) -> DeployError:
        """Return the error, with the address of the revision's log where there is one."""
        log_url = ""
        if revision:
            try:
                log_url = text(self._api.get(f"{self._path}/revisions/{revision}"), "logUri")
            except ApiError:
                log_url = ""
        return DeployError(message.partition("Logs URL:")[0].strip() or "the update failed", log_url)
