"""Google Cloud Run, through Google's client library.

Environment: GCP_ACCESS_TOKEN, GCP_PROJECT, GCP_REGION, CLOUD_RUN_SERVICE, and for the smoke test API_KEY
and METRICS_TOKEN. GCP_IMAGES names a remote repository of Artifact Registry, such as
REGION-docker.pkg.dev/PROJECT/ghcr, through which Cloud Run pulls images of ghcr.io. CLOUD_RUN_API_URL
overrides the API's address.

A new revision gets no traffic at first, only a tag with its own URL; once it has passed the smoke test
there, it gets all traffic. A revision keeps its image and variables, so a rollback only moves the traffic.
The revision that served before stays tagged `previous`, also after a deploy that failed. With --canary, the
new revision gets a share of the traffic meanwhile. Prometheus must know each instance of both, so they
must push their metrics.
"""

import argparse
import re
import time
from collections.abc import Callable, Mapping
from typing import Any, TypeVar

import requests
from google.api_core.exceptions import GoogleAPICallError
from google.auth.exceptions import GoogleAuthError
from google.cloud.run_v2 import (
    Condition,
    EnvVar,
    RevisionsClient,
    Service,
    ServicesClient,
    TrafficTarget,
)
from google.cloud.run_v2 import TrafficTargetAllocationType as Allocation
from google.cloud.run_v2.services.revisions.transports import RevisionsRestTransport
from google.cloud.run_v2.services.services.transports import ServicesRestTransport
from google.oauth2.credentials import Credentials

from deploy import command
from deploy.cancellation import CANCELLATION
from deploy.output import say
from deploy.provider import ApiError, api_address, api_session, send_once, setting, token, url_of_service
from deploy.target import DeployError, Deployment, Unfinished, Variables, Wait

EXAMPLE = "python -m deploy cloud-run --image REGION-docker.pkg.dev/PROJECT/ghcr/OWNER/REPO:COMMIT"
configure = command.configure
CANDIDATE, PREVIOUS = "candidate", "previous"
"""Tags of the revision that is being tested, and of the one that served before."""
_UPDATES = 5
_Answer = TypeVar("_Answer")


def main(arguments: argparse.Namespace) -> int:
    """Deploy or roll back."""
    return command.run(arguments, CloudRun)


class CloudRun:
    """One service on Cloud Run. Every method raises ApiError if Google rejects a request or is silent."""

    def __init__(self, environ: Mapping[str, str], options: argparse.Namespace) -> None:
        """Check the variables that the module describes; raise DeployError if one is missing or wrong."""
        patterns = {
            "GCP_PROJECT": r"[a-z0-9.:-]{1,63}",
            "GCP_REGION": r"[a-z0-9-]{1,40}",
            "CLOUD_RUN_SERVICE": r"[a-z]([a-z0-9-]{0,47}[a-z0-9])?",
        }
        project, region, self._short = (
            setting(environ, name, pattern, "a name as Google Cloud has them")
            for name, pattern in patterns.items()
        )
        self._name = f"projects/{project}/locations/{region}/services/{self._short}"
        self._images = environ.get("GCP_IMAGES") or "ghcr.io"
        self._timeout_s, self._poll_s = options.timeout, options.poll
        self._before = self._previous = self._revision = self._url = ""
        secret = token(environ, "GCP_ACCESS_TOKEN")
        address = api_address(environ, "CLOUD_RUN_API_URL", "https://run.googleapis.com")
        api: dict[str, Any] = {
            "url_scheme": address.partition("://")[0],
            "host": address.partition("://")[2],
            "credentials": Credentials(secret),  # type: ignore[no-untyped-call]
        }
        services, revisions = ServicesRestTransport(**api), RevisionsRestTransport(**api)
        adapters = api_session("Cloud Run", secret, self._poll_s / 5).adapters
        for transport in (services, revisions):  # Google's sessions, with the retries of all our clients
            transport._session.adapters = adapters
        self._services = ServicesClient(transport=services)
        self._revisions = RevisionsClient(transport=revisions)

    def current(self) -> Deployment | None:
        """Return the revision that gets all traffic. See `Target`."""
        service = self._settled("an update that began before is under way: waiting for its end")
        self._before, tagged = _serving(service), _tagged(service, PREVIOUS)
        self._previous = tagged if tagged != self._before else ""  # the owner may have gone back with gcloud
        if not self._before:
            return None  # a service that has never served may have no URL yet
        self._url = url_of_service(service.uri)
        return self._deployment(self._before)

    def previous(self, wanted: str) -> Deployment:
        """Return the revision tagged `previous`, or the one that is named. See `Target`."""
        name = wanted or self._previous
        if not name:
            raise DeployError(f"no other revision is tagged {PREVIOUS}; name the one to go back to")
        return self._deployment(name)

    def stage(self, image: str, variables: Variables) -> str:
        """Create a revision that gets a tag, and no traffic unless nothing serves. See `Target`."""
        service = self._read()
        if len(service.template.containers) != 1:
            raise DeployError(f"{self._short} must have one container")
        container = service.template.containers[0]
        self._before = _serving(service)
        if self._before:  # its variables: after a rollback, the template holds those that were given up
            container.env = self._get_revision(self._before).containers[0].env
        container.image = re.sub("^ghcr.io(?=/)", self._images, image)
        container.env = [variable for variable in container.env if variable.name not in variables] + [
            EnvVar(name=name, value=value) for name, value in variables.items() if value is not None
        ]
        self._revision = service.template.revision = f"{self._short}-d{int(time.time() * 1000):x}"
        staged = _to(self._revision, 0 if self._before else 100, CANDIDATE)
        live = [_to(self._before)] if self._before else []
        service.traffic = [*live, staged, *_previous(self._previous), *_tags_of_others(service)]
        say(f"{self._revision}: {container.image}")
        service = self._update(service, "template", "traffic")
        self._url = url_of_service(service.uri)
        tagged = (entry.uri for entry in service.traffic_statuses if entry.tag == CANDIDATE)
        return next(tagged, "") or self._url

    stage_beside = stage  # without traffic, if something serves

    def unfinished(self) -> Unfinished | None:
        """Return the canary whose revision is tagged `candidate`. See `SplittingTarget`."""
        service = self._read()
        candidate, before = _tagged(service, CANDIDATE), _serving(service)
        if not candidate or not before or candidate == before:
            return None
        name, former = (self._name_of(revision) for revision in (candidate, before))
        percent = sum(entry.percent for entry in service.traffic if _short(entry.revision) == candidate)
        return Unfinished(name, percent) if name and name != former else None

    def resume(self, image: str, variables: Variables) -> str:
        """Take the revision tagged `candidate`. See `SplittingTarget`."""
        service = self._settled()
        self._before = _serving(service)
        for entry in service.traffic_statuses:
            if entry.tag == CANDIDATE:
                self._revision = _short(entry.revision)
                return entry.uri or self._url
        raise DeployError(f"no revision is tagged {CANDIDATE} any more")

    def split(self, percent: int) -> None:
        """Divide the traffic between two revisions. See `SplittingTarget`."""
        service = self._read()
        shares = [_to(self._before, 100 - percent), _to(self._revision, percent, CANDIDATE)]
        service.traffic = [*shares, *_previous(self._previous), *_tags_of_others(service)]
        say(f"{self._revision} gets {percent} % of the traffic")
        self._update(service, "traffic")

    def promote(self) -> str:
        """Give all traffic to the staged revision. See `Target`."""
        service = self._read()
        # To the latest revision instead of this one by name, so that the owner's next gcloud deploy gets it.
        newest = _short(service.latest_ready_revision) == self._revision
        latest = TrafficTarget(type_=Allocation.TRAFFIC_TARGET_ALLOCATION_TYPE_LATEST, percent=100)
        live = latest if newest else _to(self._revision)
        service.traffic = [live, *_previous(self._before), *_tags_of_others(service)]
        say(f"{self._revision} gets the traffic")
        self._update(service, "traffic")
        return self._url

    def roll_back(self, to: Deployment | None) -> str:
        """Give all traffic to `to`. See `Target`."""
        if to is None:
            return ""
        say(f"{to.id} gets the traffic")
        failure = DeployError(f"{to.id} does not get the traffic")
        # `promote` may have moved the tag. After a rollback by hand, no revision has it.
        tag = _previous(self._previous if to.id == self._before else "")
        for _ in range(_UPDATES):
            service = self._read()
            service.traffic = [_to(to.id), *tag, *_tags_of_others(service)]
            try:
                self._update(service, "traffic")
            except DeployError as error:
                # A conflict with someone else's update; or the newest revision is broken, so that the service
                # counts as failed whichever revision gets the traffic. The traffic decides.
                failure = error
            if _serves_alone(self._settled(), to.id):
                return self._url
            CANCELLATION.pause(self._poll_s)
        raise failure

    def _name_of(self, revision: str) -> str:
        """Return a revision's DEPLOYMENT."""
        variables = self._get_revision(revision).containers[0].env
        return next((str(one.value) for one in variables if one.name == "DEPLOYMENT"), "")

    def _deployment(self, revision: str) -> Deployment:
        return Deployment(revision, self._get_revision(revision).containers[0].image, self._url)

    def _update(self, service: Service, *fields: str) -> Service:
        """Write these fields of the service, and return it once the change has taken effect.

        The etag makes Google reject the update if someone has changed the service since it was read. So it
        is also safe to send the update again if the answer was lost.
        """
        etag, request = service.etag, {"service": service, "update_mask": {"paths": fields}}
        send_once(
            lambda: self._ask(self._services.update_service, request),
            lambda: self._read().etag != etag,
            self._poll_s / 5,
        )
        service = self._settled(former_etag=etag)
        if service.terminal_condition.state == Condition.State.CONDITION_FAILED:
            message = service.terminal_condition.message.partition("Logs URL:")[0].strip()
            if "template" in fields:
                say(f"log: {self._get_revision(self._revision).log_uri}")
            raise DeployError(message or "the update failed")
        return service

    def _settled(self, note: str = "under way", former_etag: str = "") -> Service:
        """Return the service once no update is under way, and its etag is no longer the former one."""
        wait = Wait(self._timeout_s, self._poll_s)
        while (service := self._read()).reconciling or service.etag == former_etag:
            wait.pause(note)
        return service

    def _read(self) -> Service:
        try:
            return self._ask(self._services.get_service, {"name": self._name})
        except ApiError as error:
            if error.status != 404:
                raise
        raise DeployError(
            f"there is no service {self._short}; create it once, with its settings: "
            "gcloud run services replace deploy/cloudrun/service.yaml"
        )

    def _get_revision(self, name: str) -> Any:
        return self._ask(self._revisions.get_revision, {"name": f"{self._name}/revisions/{name}"})

    def _ask(self, method: Callable[..., _Answer], request: dict[str, Any]) -> _Answer:
        """Call a method of Google's client."""
        CANCELLATION.check()
        try:
            return method(request=request, retry=None, timeout=None)
        except GoogleAPICallError as error:
            status = int(error.code or 0)
            message = error.message.partition(": ")[2] or error.message  # without "GET https://..."
            raise ApiError(f"Cloud Run: {status} {message}", status, "GCP_ACCESS_TOKEN") from None
        except GoogleAuthError:  # the client tries to renew a token that is rejected
            raise ApiError("Cloud Run: 401", 401, "GCP_ACCESS_TOKEN") from None
        except requests.RequestException as error:
            raise ApiError(f"Cloud Run: no answer ({type(error).__name__})") from None


def _to(revision: str, percent: int = 100, tag: str = "") -> TrafficTarget:
    """Return an entry that gives a share of the traffic, and a tag, to a revision."""
    by_name = Allocation.TRAFFIC_TARGET_ALLOCATION_TYPE_REVISION
    return TrafficTarget(type_=by_name, revision=revision, percent=percent, tag=tag)


def _previous(revision: str) -> list[TrafficTarget]:
    """Return the entry that tags a revision `previous`; none if there is no such revision."""
    return [_to(revision, 0, PREVIOUS)] if revision else []


def _tagged(service: Service, tag: str) -> str:
    """Return the revision that has a tag, or nothing."""
    return next((_short(entry.revision) for entry in service.traffic if entry.tag == tag), "")


def _tags_of_others(service: Service) -> list[TrafficTarget]:
    """Return the tags that someone else has set, as entries without traffic."""
    ours = ("", CANDIDATE, PREVIOUS)
    return [
        TrafficTarget(type_=entry.type_, revision=entry.revision, tag=entry.tag)
        for entry in service.traffic
        if entry.tag not in ours
    ]


def _serves_alone(service: Service, revision: str) -> bool:
    latest = service.latest_ready_revision
    return {_short(one.revision or latest) for one in service.traffic_statuses if one.percent} == {revision}


def _serving(service: Service) -> str:
    """Return the revision that serves, or nothing; the share of a canary doesn't count.

    Raises:
        DeployError: several revisions serve.
    """
    latest, statuses = service.latest_ready_revision, service.traffic_statuses
    names = {_short(entry.revision or latest) for entry in statuses if entry.percent}
    if len(names) > 1:
        names -= {_short(entry.revision) for entry in statuses if entry.tag == CANDIDATE}
    if len(names) > 1:
        split = ", ".join(sorted(names))
        raise DeployError(f"the traffic is split between {split}; give it all to one first")
    return names.pop() if names else ""


def _short(revision: str) -> str:
    return revision.rpartition("/")[2]
