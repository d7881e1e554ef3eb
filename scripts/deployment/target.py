"""The small interface that every target has: what serves, deploy, go back."""

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Protocol

from deployment.cancellation import CANCELLATION
from deployment.output import say

Variables = Mapping[str, str | None]
"""What changes in the service's environment; None: the variable goes. What isn't named stays as it is."""


class DeployError(Exception):
    """A deploy or a rollback that failed; the message is one line for a person.

    Attributes:
        log_url: where the provider's log of it stands; empty where there is none.
    """

    def __init__(self, reason: str, log_url: str = "") -> None:
        super().__init__(reason)
        self.log_url = log_url


@dataclass(frozen=True)
class Deployment:
    """One that serves, or did.

    Attributes:
        id: what the provider calls it.
        image: its reference.
        url: where the service answers.
    """

    id: str
    image: str
    url: str


class Target(Protocol):
    """Where the service runs."""

    def current(self) -> Deployment | None:
        """Return what serves now, once nothing is under way any more; None where nothing does.

        Raises:
            DeployError: it can't be told, or this isn't a service that can be deployed to.
        """

    def previous(self, wanted: str) -> Deployment:
        """Return the deployment that a rollback by hand goes back to.

        Args:
            wanted: its id; empty: the one before.

        Raises:
            DeployError: there is none, or it isn't clear which it is.
        """

    def deploy(self, image: str, variables: Variables) -> Iterator[str]:
        """Deploy; at each URL that it yields, what is new answers and is to be tested before it goes on.

        Raises:
            DeployError: it failed. What serves is left for `roll_back`.
        """

    def roll_back(self, to: Deployment | None) -> str:
        """Undo `deploy`, however far it came, or go back to an earlier deployment.

        Returns:
            URL at which `to` answers again.

        Raises:
            DeployError: `to` doesn't serve, or there is nothing to go back to.
        """


class Wait:
    """A wait that ends, with a line for each change of what is waited for."""

    def __init__(self, seconds: float, poll_s: float) -> None:
        """Begin.

        Args:
            seconds: until `pause` gives up.
            poll_s: between two looks.
        """
        self._seconds, self._poll_s = seconds, poll_s
        self._began = time.monotonic()
        self._last = ""

    def report(self, status: str) -> None:
        """Print the status where it has changed."""
        if status != self._last:
            say(f"{time.monotonic() - self._began:.1f} s {status}")
            self._last = status

    def pause(self) -> None:
        """Sleep until the next look.

        Raises:
            DeployError: it has taken too long.
            Cancelled: a signal came.
        """
        if time.monotonic() - self._began >= self._seconds:
            last = f"; its last status was {self._last}" if self._last else ""
            raise DeployError(f"not done after {self._seconds:.0f} s{last}")
        CANCELLATION.pause(self._poll_s)
