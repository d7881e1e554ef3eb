"""Render: an image-backed web service.

What its documentation says and this rests on: a deploy that fails leaves the one before serving; variables
that are changed by the API take effect with the next deploy; a rollback runs the target's image with the
variables that the target had, and changes none of the service's settings, so that those are put back here.
"""

from collections.abc import Callable, Iterator, Mapping

from deployment.api import ApiError, UnclearError
from deployment.output import say
from deployment.render_api import Deploy, Service
from deployment.target import DeployError, Deployment, Variables, Wait

_STARTS = 3


class Render:
    """One service on Render."""

    def __init__(self, environ: Mapping[str, str], timeout_s: float, poll_s: float) -> None:
        """Check the settings; ask nothing yet.

        Args:
            environ: RENDER_API_KEY, RENDER_SERVICE_ID; RENDER_API_URL for another address.
            timeout_s: for one deploy or rollback.
            poll_s: between two looks at it.

        Raises:
            DeployError: a setting is missing or bad.
        """
        self._service = Service(environ, pause_s=poll_s / 5)
        self._timeout_s, self._poll_s = timeout_s, poll_s
        self._known: set[str] = set()  # deploys from before ours
        self._own: set[str] = set()
        self._lost = False  # whether one of ours may have begun without our being told
        self._former: dict[str, str | None] | None = None  # variables before ours; None: nothing was begun

    def current(self) -> Deployment | None:
        """Return the live deploy. See `Target`."""
        self._service.look()
        self._until_quiet()
        return self._live()

    def previous(self, wanted: str) -> Deployment:
        """Return the deploy that was live before this one. See `Target`."""
        deploys = self._service.deploys()
        earlier = [deploy for deploy in deploys if deploy.status == "deactivated"]
        if wanted:
            earlier = [deploy for deploy in earlier if deploy.id == wanted]
        elif any(deploy.status == "live" and deploy.rollback for deploy in deploys):
            names = ", ".join(f"{deploy.id} ({deploy.image})" for deploy in earlier[:5])
            raise DeployError(f"what serves is a rollback already; name the deploy to go back to: {names}")
        if not earlier:
            raise DeployError(f"there is no earlier deploy {wanted}".rstrip() + " that was live")
        return self._deployment(earlier[0])

    def deploy(self, image: str, variables: Variables) -> Iterator[str]:
        """Set the variables and start a deploy; yield the service's URL once it is live. See `Target`."""
        self._known = {deploy.id for deploy in self._service.deploys()}
        self._former = {name: self._service.variable(name) for name in variables}
        for name, value in variables.items():
            self._service.set(name, value)
        self._until_live(self._start(lambda: self._service.start(image)))
        yield self._service.url

    def roll_back(self, to: Deployment | None) -> str:
        """Stop what is under way and make `to` live again, with its variables. See `Target`."""
        began = self._former is not None
        if began:
            self._cancel_own()
            self._until_quiet()
        live = self._live()
        if to is None or (live and live.id == to.id):
            self._put_back()
        elif live and began and not self._is_own(live.id):
            raise DeployError(f"another deploy, {live.id}, has become live meanwhile and is left alone")
        else:
            target = to.id
            self._known |= {deploy.id for deploy in self._service.deploys()}
            deploy = self._start(lambda: self._service.start_rollback(target))
            self._put_back()
            self._until_live(deploy)
        if to is None:
            raise DeployError("there is no deploy before this one to go back to")
        if not began:
            say("the service's settings still hold the later variables, for a deploy that doesn't set them")
        return self._service.url

    def _live(self) -> Deployment | None:
        live = [deploy for deploy in self._service.deploys() if deploy.status == "live"]
        return self._deployment(live[0]) if live else None

    def _deployment(self, deploy: Deploy) -> Deployment:
        return Deployment(deploy.id, deploy.image, self._service.url)

    def _put_back(self) -> None:
        for name, value in (self._former or {}).items():
            self._service.set(name, value)

    def _start(self, begin: Callable[[], str]) -> str:
        """Start a deploy or a rollback; return its id. Where Render's answer is lost, it is looked for."""
        for attempt in range(_STARTS):
            lost: UnclearError | None = None
            started, self._lost = "", True  # from now on, should this be cut off
            try:
                started = begin()
            except UnclearError as error:
                lost = error
            if not started:
                new = [d.id for d in self._service.deploys() if d.id not in self._known and d.by_api]
                started = new[0] if new else ""
            if started:
                self._own.add(started)
                self._lost = False
                say(f"{started}: {self._service.log_url(started)}")
                return started
            if lost is None:
                break
            if attempt < _STARTS - 1:
                say(f"{lost}; no deploy has begun: once more")
        raise lost or DeployError("Render has accepted the deploy and shows none")

    def _until_live(self, name: str) -> None:
        wait, log_url = self._wait(), self._service.log_url(name)
        while True:
            deploy = self._service.deploy(name)
            wait.report(deploy.status)
            if deploy.status == "live":
                return
            if not deploy.under_way:
                reason = f"{name}: {deploy.status}, {self._service.reason(deploy)}".removesuffix(", ")
                raise DeployError(reason, log_url)
            try:
                wait.pause()
            except DeployError as error:
                raise DeployError(f"{name}: {error}", log_url) from None

    def _until_quiet(self) -> None:
        """Wait until no deploy is under way: only one runs at a time, and it decides what serves."""
        wait = self._wait()
        while others := [deploy for deploy in self._service.deploys() if deploy.under_way]:
            wait.report(f"{others[0].id}, begun by others, is {others[0].status}: waiting for its end")
            wait.pause()

    def _is_own(self, deploy: str) -> bool:
        return deploy in self._own or (self._lost and deploy not in self._known)

    def _cancel_own(self) -> None:
        """Cancel what `deploy` has started, and wait until it has ended one way or another."""
        wait = self._wait()
        while own := [d.id for d in self._service.deploys() if d.under_way and self._is_own(d.id)]:
            try:
                self._service.cancel(own[0])
            except ApiError as error:  # it may just have ended
                wait.report(str(error))
            else:
                wait.report(f"{own[0]} is cancelled")
            wait.pause()

    def _wait(self) -> Wait:
        return Wait(self._timeout_s, self._poll_s)
