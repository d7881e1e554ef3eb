"""The interface that every deploy target implements."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from deploy.cancellation import CANCELLATION
from deploy.output import say

Variables = Mapping[str, str | None]
"""Changes of the service's environment; None removes a variable. Other variables keep their values."""


class DeployError(Exception):
    """A deploy or a rollback failed; the message is one line for a person."""


@dataclass(frozen=True)
class Deployment:
    """A deployment, live or earlier: the provider's name for it, its image, and where it answers."""

    id: str
    image: str
    url: str


class Target(Protocol):
    """A place where the service runs."""

    def current(self) -> Deployment | None:
        """Return the live deployment once no change is under way, or None if nothing serves.

        Raises:
            DeployError: it cannot be determined, or this is not a service that images can be deployed to.
        """

    def previous(self, wanted: str) -> Deployment | None:
        """Return the deployment that a rollback by hand goes back to, or None if there is none.

        Args:
            wanted: its id; empty: the previous one.

        Raises:
            DeployError: it is not clear which one it is.
        """

    def stage(self, image: str, variables: Variables) -> str:
        """Start the new version and return the URL at which it can be tested.

        A target that can test a version before it gets traffic does so; on others it serves from now on.

        Raises:
            DeployError: it does not start. `roll_back` then restores the live deployment.
        """

    def promote(self) -> str:
        """Let the staged version serve for good, and return the service's URL.

        Raises:
            DeployError: it failed, as for `stage`.
        """

    def roll_back(self, to: Deployment | None) -> str:
        """Undo `stage` and `promote`, however far they came, or go back to an earlier deployment.

        Args:
            to: the deployment that is to serve; None: nothing served before.

        Returns:
            URL at which `to` answers again; empty if it is None.

        Raises:
            DeployError: `to` does not serve.
        """


@dataclass(frozen=True)
class Unfinished:
    """A canary that was cut off: the candidate's DEPLOYMENT, and its share of the traffic in percent."""

    deployment: str
    percent: int


@runtime_checkable
class SplittingTarget(Target, Protocol):
    """A place that can divide the traffic between the live and the staged version.

    It keeps the state of a canary itself, so that another process can go on. `promote` and `roll_back` work
    from every share.
    """

    def unfinished(self) -> Unfinished | None:
        """Return the canary that a killed run left, if any; called after `current`.

        Raises:
            DeployError: it cannot be determined.
        """

    def stage_beside(self, image: str, variables: Variables) -> str:
        """Start the new version beside the live one, without traffic, and return its own URL.

        Raises:
            DeployError: it does not start, as for `stage`.
        """

    def resume(self, image: str, variables: Variables) -> str:
        """Take the candidate of the unfinished canary as the staged version, and return its own URL.

        Image and variables are those with which it was staged.

        Raises:
            DeployError: it does not run.
        """

    def split(self, percent: int) -> None:
        """Give the staged version this share of the traffic, and the live one the rest.

        Raises:
            DeployError: it failed; the share may be the old or the new one.
        """


class Wait:
    """A wait of at most `seconds`, in pauses of `poll_s`, that prints each change of status."""

    def __init__(self, seconds: float, poll_s: float) -> None:
        self._seconds, self._poll_s = seconds, poll_s
        self._began = time.monotonic()
        self._last = ""

    def pause(self, status: str) -> None:
        """Print the status if it has changed, and sleep; raise DeployError once the time limit has passed."""
        passed_s = time.monotonic() - self._began
        if status != self._last:
            say(f"{passed_s:.1f} s {status}")
            self._last = status
        if passed_s >= self._seconds:
            raise DeployError(f"not done after {self._seconds:.0f} s; its last status was {status}")
        CANCELLATION.pause(self._poll_s)
