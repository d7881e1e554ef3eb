"""One pod of the simulated fleet: workers, and the queue in front of them, as in app/http/admission.py."""

from collections import deque
from collections.abc import Callable, Generator
from typing import Any, NamedTuple

import simpy

Steps = Generator[simpy.Event, Any, None]


class Limits(NamedTuple):
    """Settings of the service.

    Attributes:
        workers: MAX_CONCURRENCY.
        queue: MAX_QUEUE.
        timeout_s: REQUEST_TIMEOUT_S.
    """

    workers: int = 1
    queue: int = 64
    timeout_s: float = 10.0


class Request(NamedTuple):
    """A request with one photo."""

    arrived: float  # when, in simulated seconds
    service_s: float  # how long it occupies a worker


class Pod:
    """Answers photos in the order of their arrival.

    Args:
        env: the simulation.
        limits: settings of the service.
        answered: called with each photo at the moment of its answer.
        rejected: called with each photo that gets 503.
    """

    def __init__(
        self,
        env: simpy.Environment,
        limits: Limits,
        answered: Callable[[Request], None],
        rejected: Callable[[Request], None],
    ) -> None:
        self._env, self._limits = env, limits
        self._answered, self._rejected = answered, rejected
        self._queue: deque[Request] = deque()
        self._busy = 0

    @property
    def in_flight(self) -> int:
        """Number of photos that workers predict or that wait."""
        self._reject_timed_out()
        return self._busy + len(self._queue)

    def receive(self, request: Request) -> None:
        """Start to predict a photo, or let it wait, or reject it."""
        self._reject_timed_out()
        if self._busy < self._limits.workers:
            self._busy += 1
            self._env.process(self._work(request))
        elif len(self._queue) < self._limits.queue:
            self._queue.append(request)
        else:
            self._rejected(request)

    def _work(self, request: Request | None) -> Steps:
        while request:
            yield self._env.timeout(request.service_s)
            self._answered(request)
            self._reject_timed_out()
            request = self._queue.popleft() if self._queue else None
        self._busy -= 1

    def _reject_timed_out(self) -> None:
        """Reject photos that have waited too long; called before each look at the queue."""
        while self._queue and self._env.now - self._queue[0].arrived >= self._limits.timeout_s:
            self._rejected(self._queue.popleft())
