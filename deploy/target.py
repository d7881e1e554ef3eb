"""The interface that every deploy target implements."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from deploy.cancellation import CANCELLATION
from deploy.output import say

Variables = Mapping[str, str | None]
"""Changes of the service's environment; None removes a variable. Other variables keep their values."""


class DeployError(Exception):
    """A deploy or a rollback failed; the message is one line for a person."""


@dataclass(frozen=True)
class Deployment:
    """One deployment, live or earlier.

    Attributes:
        id: the provider's name for it.
        image: reference of its image.
        url: where the service answers.
    """

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

    def previous(self, wanted: str) -> Deployment:
        """Return the deployment that a rollback by hand goes back to.

        Args:
            wanted: its id; empty: the one before.

        Raises:
            DeployError: there is none, or it is not clear which one it is.
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
            URL at which `to` answers again.

        Raises:
            DeployError: `to` does not serve, or there is nothing to go back to.
        """


class Wait:
    """A wait with a time limit that prints each change of status."""

    def __init__(self, seconds: float, poll_s: float) -> None:
        """Start the clock.

        Args:
            seconds: time limit of all pauses together.
            poll_s: length of one pause, in seconds.
        """
        self._seconds, self._poll_s = seconds, poll_s
        self._began = time.monotonic()
        self._last = ""

    def report(self, status: str) -> None:
        """Print the status if it has changed."""
        if status != self._last:
            say(f"{time.monotonic() - self._began:.1f} s {status}")
            self._last = status

    def pause(self) -> None:
        """Sleep until it is time to look again.

        Raises:
            DeployError: the time limit has passed.
            Cancelled: a signal came.
        """
        if time.monotonic() - self._began >= self._seconds:
            last = f"; its last status was {self._last}" if self._last else ""
            raise DeployError(f"not done after {self._seconds:.0f} s{last}")
        CANCELLATION.pause(self._poll_s)
