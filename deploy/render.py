"""Render: an image-backed web service, deployed by its API (https://api-docs.render.com/reference).

Environment: RENDER_API_KEY, RENDER_SERVICE_ID (such as srv-abc123), and for the smoke test API_KEY and
METRICS_TOKEN. RENDER_API_URL overrides the API's address.

What Render's documentation says and this relies on: if a deploy fails, the one before keeps serving. A
changed variable takes effect with the next deploy. A rollback runs the old image with its old variables,
but leaves the service's settings as they are; so this puts the settings back too.
"""

import argparse
import contextlib
import os
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import requests

from deploy import command
from deploy.cancellation import CANCELLATION
from deploy.output import say
from deploy.provider import ATTEMPTS, ApiError, api_address, api_session, hint, setting, token
from deploy.target import DeployError, Deployment, Variables, Wait
from ml.model.http import TRANSIENT, retry_after_s

EXAMPLE = "python -m deploy render --image ghcr.io/OWNER/REPO:COMMIT --model-url https://example.org/model.pt"
configure = command.configure
_UNDER_WAY = ("created", "queued", "build_in_progress", "pre_deploy_in_progress", "update_in_progress")
_LONGEST_PAUSE_S = 60.0


def main(arguments: argparse.Namespace) -> int:
    """Deploy or roll back."""
    return command.run(arguments, lambda: Render(os.environ, arguments))


@dataclass(frozen=True)
class _Deploy:
    """One deploy of the service.

    Attributes:
        id: such as dep-abc123.
        status: `live`; `deactivated` once another one has become live; `build_failed` and others.
        trigger: what started it, such as `api` or `rollback`.
        created: in ISO 8601.
        image: its reference.
    """

    id: str
    status: str
    trigger: str
    created: str
    image: str

    @property
    def under_way(self) -> bool:
        return self.status in _UNDER_WAY

    @classmethod
    def read(cls, answer: Any) -> "_Deploy":
        image = (answer.get("image") or {}).get("ref", "")
        return cls(
            answer["id"], answer["status"], answer.get("trigger", ""), answer.get("createdAt", ""), image
        )


class Render:
    """One service on Render. Every method raises ApiError if Render rejects a request or does not answer."""

    def __init__(self, environ: Mapping[str, str], options: argparse.Namespace) -> None:
        """Check the variables that the module describes; send nothing yet.

        Raises:
            DeployError: one of them is missing or wrong.
        """
        self._id = setting(
            environ, "RENDER_SERVICE_ID", r"[A-Za-z0-9_-]{1,100}", "the service's id, such as srv-abc123"
        )
        address = api_address(environ, "RENDER_API_URL", "https://api.render.com/v1")
        self._base = f"{address}/services/{self._id}"
        self._timeout_s, self._poll_s, self._pause_s = options.timeout, options.poll, options.poll / 5
        self._session = api_session("Render", token(environ, "RENDER_API_KEY"), self._pause_s)
        self._url = self._dashboard = ""
        self._earlier: set[str] = set()  # ids of the deploys from before ours
        self._own: set[str] = set()
        self._former: dict[str, str | None] | None = None  # variables before ours; None: nothing was begun

    def current(self) -> Deployment | None:
        """Return the live deploy. See `Target`."""
        service = self._ask("GET", "")
        details = service.get("serviceDetails") or {}
        runtime = details.get("runtime") or details.get("env")
        if service.get("type") != "web_service":
            raise DeployError(f"{self._id} is not a web service, but a {service.get('type')}")
        if runtime != "image":
            raise DeployError(
                f"{self._id} builds from its repository (runtime {runtime}); images can only be deployed to "
                "a service of runtime image, as in render.yaml"
            )
        if service.get("suspended") == "suspended":
            raise DeployError(f"{self._id} is suspended; resume it in Render's dashboard")
        self._url, self._dashboard = details.get("url") or "", service.get("dashboardUrl") or ""
        if not re.fullmatch(r"https?://[!-~]+", self._url):
            raise DeployError(f"Render does not say the URL of {self._id}")
        self._until_quiet()
        return self._live()

    def previous(self, wanted: str) -> Deployment:
        """Return the deploy that was live before this one. See `Target`."""
        deploys = self._deploys()
        earlier = [deploy for deploy in deploys if deploy.status == "deactivated"]
        if wanted:
            earlier = [deploy for deploy in earlier if deploy.id == wanted]
        elif any(deploy.status == "live" and deploy.trigger == "rollback" for deploy in deploys):
            names = ", ".join(f"{deploy.id} ({deploy.image})" for deploy in earlier[:5])
            raise DeployError(f"a rollback is live already; name the deploy to go back to: {names}")
        if not earlier:
            raise DeployError(f"there is no earlier deploy {wanted}".rstrip() + " that was live")
        return self._deployment(earlier[0])

    def stage(self, image: str, variables: Variables) -> str:
        """Set the variables, start a deploy, and wait until it is live. See `Target`."""
        self._earlier = {deploy.id for deploy in self._deploys()}
        self._former = {name: self._variable(name) for name in variables}
        self._set(variables)
        self._until_live(self._start("/deploys", {"imageUrl": image}))
        return self._url

    def promote(self) -> str:
        """Do nothing: on Render a staged deploy is live already. See `Target`."""
        return self._url

    def roll_back(self, to: Deployment | None) -> str:
        """Cancel the deploy that is under way, and make `to` live with its variables. See `Target`."""
        began = self._former is not None
        if began:
            self._cancel_own()
            self._until_quiet()
        live = self._live()
        if to is None or (live and live.id == to.id):
            self._set(self._former or {})
        elif live and began and live.id not in self._own:
            raise DeployError(f"another deploy, {live.id}, has become live since and is left alone")
        else:
            self._earlier |= {deploy.id for deploy in self._deploys()}
            started = self._start("/rollback", {"deployId": to.id})
            self._set(self._former or {})
            self._until_live(started)
        if to is None:
            raise DeployError("there is no deploy before this one to go back to")
        if not began:
            say(
                "Render's settings keep the newer variables: the next deploy uses them unless it sets its own"
            )
        return self._url

    def _live(self) -> Deployment | None:
        live = [deploy for deploy in self._deploys() if deploy.status == "live"]
        return self._deployment(live[0]) if live else None

    def _deployment(self, deploy: _Deploy) -> Deployment:
        return Deployment(deploy.id, deploy.image, self._url)

    def _deploys(self) -> list[_Deploy]:
        """Return the last hundred deploys, newest first."""
        answer = self._ask("GET", "/deploys", params={"limit": "100"})
        deploys = [_Deploy.read(item["deploy"]) for item in answer or []]
        return sorted(deploys, key=lambda deploy: deploy.created, reverse=True)

    def _start(self, path: str, body: dict[str, str]) -> str:
        """Start a deploy or a rollback, which is a deploy too, and return its id.

        Render's answer may be lost, so its list of deploys is searched for a new one before another request.
        """
        pause_s = self._pause_s
        for attempt in range(1, ATTEMPTS + 1):
            started, failure = "", DeployError("Render accepted the deploy but does not list it")
            try:
                answer = self._ask("POST", path, json=body)
                started = answer["id"] if answer else ""  # none if it waits for another one
            except ApiError as error:
                if error.status and error.status not in TRANSIENT:
                    raise
                failure = error
            if not started:
                new = [
                    d
                    for d in self._deploys()
                    if d.id not in self._earlier and d.trigger in ("api", "rollback")
                ]
                started = new[0].id if new else ""
            if started:
                self._own.add(started)
                say(f"{started}, log: {self._dashboard}/deploys/{started}")
                return started
            if not isinstance(failure, ApiError) or attempt == ATTEMPTS:
                raise failure
            say(f"{failure}; no deploy has begun: trying again")
            CANCELLATION.pause(min(max(retry_after_s(failure.retry_after), pause_s), _LONGEST_PAUSE_S))
            pause_s *= 2
        raise AssertionError("unreachable")

    def _until_live(self, name: str) -> None:
        wait = self._wait()
        while (deploy := _Deploy.read(self._ask("GET", f"/deploys/{name}"))).status != "live":
            wait.report(deploy.status)
            if not deploy.under_way:
                raise DeployError(f"{name}: {deploy.status}, {self._reason(deploy)}".removesuffix(", "))
            wait.pause()
        wait.report(deploy.status)

    def _until_quiet(self) -> None:
        """Wait until no deploy is under way: only one runs at a time, and it decides what serves."""
        wait = self._wait()
        while others := [deploy for deploy in self._deploys() if deploy.under_way]:
            wait.report(
                f"{others[0].id}, started by someone else, is {others[0].status}: waiting for its end"
            )
            wait.pause()

    def _cancel_own(self) -> None:
        """Cancel what was started here, and wait until it has ended one way or another."""
        wait = self._wait()
        while own := [d.id for d in self._deploys() if d.under_way and d.id in self._own]:
            try:
                self._ask("POST", f"/deploys/{own[0]}/cancel")
            except ApiError as error:  # it may just have ended
                wait.report(str(error))
            else:
                wait.report(f"{own[0]} is cancelled")
            wait.pause()

    def _variable(self, name: str) -> str | None:
        """Return a variable's value, or None if it is not set."""
        try:
            value: str = self._ask("GET", f"/env-vars/{name}")["value"]
        except ApiError as error:
            if error.status == 404:
                return None
            raise
        return value

    def _set(self, variables: Variables) -> None:
        """Set or remove variables one by one; the whole list at once would replace the owner's secrets."""
        for name, value in variables.items():
            if value is not None:
                self._ask("PUT", f"/env-vars/{name}", json={"value": value})
                continue
            try:
                self._ask("DELETE", f"/env-vars/{name}")
            except ApiError as error:
                if error.status != 404:
                    raise

    def _reason(self, deploy: _Deploy) -> str:
        """Return why a deploy failed, by Render's events; empty if they do not say."""
        reasons = []
        with contextlib.suppress(ApiError, LookupError, TypeError, AttributeError):
            for item in self._ask("GET", "/events", params={"limit": "20"}):
                event, details = item["event"], item["event"].get("details") or {}
                if event.get("type") == "image_pull_failed" and event.get("timestamp", "") >= deploy.created:
                    reasons.append(details.get("message", ""))
                elif details.get("deployId") == deploy.id:
                    failure = (details.get("reason") or {}).get("failure") or {}
                    reasons += [
                        f"{name}: {value}" for name, value in failure.items() if value not in (None, False)
                    ]
        return "; ".join(filter(None, reasons))

    def _wait(self) -> Wait:
        return Wait(self._timeout_s, self._poll_s)

    def _ask(self, method: str, path: str, **options: Any) -> Any:
        """Send a request about the service and return the answer's JSON, or None if it is empty.

        Raises:
            ApiError: an error's status, no answer, or an answer that is not JSON.
        """
        CANCELLATION.check()
        what = f"Render: {method} {path or self._id}"
        try:  # an API has no reason to redirect
            answer = self._session.request(method, self._base + path, allow_redirects=False, **options)
        except requests.RequestException as error:  # its text may hold the URL or a header
            raise ApiError(f"{what}: no answer ({type(error).__name__})") from None
        try:
            body = answer.json() if answer.content.strip() else None
        except ValueError:
            body = None
            if answer.status_code < 300:
                raise ApiError(f"{what}: the answer is not JSON") from None
        if answer.status_code < 300:
            return body
        message = body.get("message", "") if isinstance(body, dict) else ""
        reason = f"{what}: {answer.status_code} {message}".rstrip() + hint(
            answer.status_code, "RENDER_API_KEY"
        )
        raise ApiError(reason, answer.status_code, answer.headers.get("Retry-After", ""))
