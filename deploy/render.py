"""Render: an image-backed web service, deployed by its API (https://api-docs.render.com/reference).

Environment: RENDER_API_KEY, RENDER_SERVICE_ID (such as srv-abc123), and for the smoke test API_KEY and
METRICS_TOKEN. RENDER_API_URL overrides the API's address.

What Render's documentation says and this relies on: if a deploy fails, the previous one keeps serving. A
changed variable takes effect with the next deploy. A rollback runs the old image with its old variables,
but leaves the service's settings as they are; so this puts the settings back too.
"""

import argparse
import contextlib
from collections.abc import Mapping
from typing import Any

import requests

from deploy import command
from deploy.cancellation import CANCELLATION
from deploy.output import say
from deploy.provider import ApiError, api_address, api_session, send_once, setting, token, url_of_service
from deploy.target import DeployError, Deployment, Variables, Wait

EXAMPLE = "python -m deploy render --image ghcr.io/OWNER/REPO:COMMIT --model-url https://example.org/model.pt"
configure = command.configure
_UNDER_WAY = ("created", "queued", "build_in_progress", "pre_deploy_in_progress", "update_in_progress")
_Deploy = dict[str, Any]  # as in Render's API; `deactivated` is the status of one that was live


def main(arguments: argparse.Namespace) -> int:
    """Deploy or roll back."""
    return command.run(arguments, Render)


class Render:
    """One service on Render. Every method raises ApiError if Render rejects a request or does not answer."""

    def __init__(self, environ: Mapping[str, str], options: argparse.Namespace) -> None:
        """Check the variables that the module describes; raise DeployError if one is missing or wrong."""
        example = "the service's id, such as srv-abc123"
        self._id = setting(environ, "RENDER_SERVICE_ID", r"[A-Za-z0-9_-]{1,100}", example)
        address = api_address(environ, "RENDER_API_URL", "https://api.render.com/v1")
        self._base = f"{address}/services/{self._id}"
        self._timeout_s, self._poll_s, self._pause_s = options.timeout, options.poll, options.poll / 5
        self._session = api_session("Render", token(environ, "RENDER_API_KEY"), self._pause_s)
        self._url = self._dashboard = ""
        self._own: set[str] = set()  # ids of the deploys that were started here
        self._former: dict[str, str | None] | None = None  # variables before ours; None: nothing was begun

    def current(self) -> Deployment | None:
        """Return the live deploy. See `Target`."""
        service = self._ask("GET", "")
        details = service["serviceDetails"]
        if (runtime := details.get("runtime")) != "image":
            raise DeployError(f"{self._id} has runtime {runtime}, not image as in render.yaml")
        if service.get("suspended") == "suspended":
            raise DeployError(f"{self._id} is suspended; resume it in Render's dashboard")
        self._url, self._dashboard = url_of_service(details.get("url") or ""), service["dashboardUrl"]
        self._until_quiet()
        return self._live()

    def previous(self, wanted: str) -> Deployment | None:
        """Return the deploy that was live before this one. See `Target`."""
        deploys = self._deploys()
        earlier = [deploy for deploy in deploys if deploy["status"] == "deactivated"]
        if wanted:
            earlier = [deploy for deploy in earlier if deploy["id"] == wanted]
        elif any(deploy["status"] == "live" and deploy["trigger"] == "rollback" for deploy in deploys):
            names = ", ".join(f"{deploy['id']} ({_image(deploy)})" for deploy in earlier[:5])
            raise DeployError(f"a rollback is live already; name the deploy to go back to: {names}")
        return self._deployment(earlier[0]) if earlier else None

    def stage(self, image: str, variables: Variables) -> str:
        """Set the variables, start a deploy, and wait until it is live. See `Target`."""
        self._former = {name: self._variable(name) for name in variables}
        self._set(variables)
        self._until_live(self._start("/deploys", {"imageUrl": image}))
        return self._url

    def promote(self) -> str:
        """Do nothing: on Render a staged deploy is live already. See `Target`."""
        return self._url

    def roll_back(self, to: Deployment | None) -> str:
        """Cancel the deploy that is under way, and make `to` live with its variables. See `Target`."""
        by_hand = self._former is None
        if not by_hand:
            self._until_quiet()
        live = self._live()
        if to is None or (live and live.id == to.id):
            self._set(self._former or {})
        elif live and not by_hand and live.id not in self._own:
            raise DeployError(f"another deploy, {live.id}, has become live since and is left alone")
        else:
            started = self._start("/rollback", {"deployId": to.id})
            self._set(self._former or {})
            self._until_live(started)
        if by_hand:
            say("Render's settings keep the newer variables; the next deploy uses those that it does not set")
        return self._url if to else ""

    def _live(self) -> Deployment | None:
        live = [deploy for deploy in self._deploys() if deploy["status"] == "live"]
        return self._deployment(live[0]) if live else None

    def _deployment(self, deploy: _Deploy) -> Deployment:
        return Deployment(deploy["id"], _image(deploy), self._url)

    def _deploys(self) -> list[_Deploy]:
        """Return the last hundred deploys, newest first."""
        answer = self._ask("GET", "/deploys", params={"limit": "100"})
        deploys = [item["deploy"] for item in answer or []]
        return sorted(deploys, key=lambda deploy: deploy["createdAt"], reverse=True)

    def _start(self, path: str, body: dict[str, str]) -> str:
        """Start a deploy or a rollback, which is a deploy too, and return its id."""
        earlier = {deploy["id"] for deploy in self._deploys()}

        def send() -> str:
            answer = self._ask("POST", path, json=body)
            return answer["id"] if answer else ""  # none if it waits for another one

        def begun() -> str:
            new = [deploy for deploy in self._deploys() if deploy["id"] not in earlier]
            return next((d["id"] for d in new if d["trigger"] in ("api", "rollback")), "")

        started: str = send_once(send, begun, self._pause_s)
        self._own.add(started)
        say(f"{started}, log: {self._dashboard}/deploys/{started}")
        return started

    def _until_live(self, name: str) -> None:
        wait = Wait(self._timeout_s, self._poll_s)
        while (deploy := self._ask("GET", f"/deploys/{name}"))["status"] != "live":
            if deploy["status"] not in _UNDER_WAY:
                raise DeployError(f"{name}: {deploy['status']}, {self._reason(deploy)}".removesuffix(", "))
            wait.pause(deploy["status"])

    def _until_quiet(self) -> None:
        """Cancel what was started here, and wait until no deploy is under way.

        Only one runs at a time, and it decides what serves.
        """
        wait = Wait(self._timeout_s, self._poll_s)
        while under_way := [deploy for deploy in self._deploys() if deploy["status"] in _UNDER_WAY]:
            deploy = max(under_way, key=lambda deploy: deploy["id"] in self._own)  # ours before others'
            name, status = deploy["id"], f"started by someone else, is {deploy['status']}"
            if name in self._own:
                status = "is cancelled"
                try:
                    self._ask("POST", f"/deploys/{name}/cancel")
                except ApiError as error:  # it may just have ended
                    status = str(error)
            wait.pause(f"{name}, {status}: waiting for its end")

    def _variable(self, name: str) -> str | None:
        """Return a variable's value, or None if it is not set."""
        answer = self._ask("GET", f"/env-vars/{name}", missing_ok=True)
        return None if answer is None else str(answer["value"])

    def _set(self, variables: Variables) -> None:
        """Set or remove variables one by one; the whole list at once would replace the owner's secrets."""
        for name, value in variables.items():
            if value is None:
                self._ask("DELETE", f"/env-vars/{name}", missing_ok=True)
            else:
                self._ask("PUT", f"/env-vars/{name}", json={"value": value})

    def _reason(self, deploy: _Deploy) -> str:
        """Return why a deploy failed, by Render's events; empty if they do not say."""
        reasons = []
        with contextlib.suppress(ApiError, LookupError, TypeError, AttributeError):
            for item in self._ask("GET", "/events", params={"limit": "20"}):
                event, details = item["event"], item["event"].get("details") or {}
                if event["type"] == "image_pull_failed" and event["timestamp"] >= deploy["createdAt"]:
                    reasons.append(details["message"])
                elif details.get("deployId") == deploy["id"]:
                    failure = (details.get("reason") or {}).get("failure") or {}
                    reasons += [f"{name}: {value}" for name, value in failure.items() if value]
        return "; ".join(reasons)

    def _ask(self, method: str, path: str, missing_ok: bool = False, **options: Any) -> Any:
        """Send a request about the service and return the answer's JSON, or None if it is empty.

        With `missing_ok`, return None also if there is nothing at the path.
        """
        CANCELLATION.check()
        what = f"Render: {method} {path or self._id}"
        try:  # an API has no reason to redirect
            answer = self._session.request(method, self._base + path, allow_redirects=False, **options)
            if answer.status_code < 300:
                return answer.json() if answer.content.strip() else None
        except requests.RequestException as error:  # its text may hold the URL or a header
            raise ApiError(f"{what}: no answer in JSON ({type(error).__name__})") from None
        if missing_ok and answer.status_code == 404:
            return None
        message = ""
        with contextlib.suppress(ValueError, LookupError, TypeError):  # not Render's JSON
            message = f" {answer.json()['message']}"
        raise ApiError(f"{what}: {answer.status_code}{message}", answer.status_code, "RENDER_API_KEY")


def _image(deploy: _Deploy) -> str:
    return str((deploy.get("image") or {}).get("ref", ""))
