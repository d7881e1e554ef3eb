"""The stages of each request, from which the spans of its trace are made if traces are exported."""

import threading
import time
from types import TracebackType
from typing import NamedTuple, Protocol

from prometheus_client import Histogram

from app.telemetry.trace_context import TraceContext, parse_parent

_local = threading.local()
_exporter: "Exporter | None" = None


class Stage(NamedTuple):
    """A part of a request's work; times by `time.perf_counter`."""

    name: str
    started: float
    ended: float
    error: str = ""
    """Name of the exception that ended it; empty: it succeeded."""


class stage:  # noqa: N801  (used like a function)
    """Context of a stage of the current request: times it for the trace and, if it succeeds, for a metric."""

    def __init__(self, name: str, histogram: Histogram) -> None:
        self._name, self._histogram = name, histogram

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        ended = time.perf_counter()
        if kind is None:
            self._histogram.observe(ended - self._started)
        if _exporter is not None:
            stages: list[Stage] = getattr(_local, "stages", [])
            stages.append(Stage(self._name, self._started, ended, kind.__name__ if kind else ""))


class RequestTrace:
    """What a request's headers and its stages say, until it is answered.

    Attributes:
        parent: the client's span; None: it names none.
        state: the header `tracestate`.
        scheme: of the address at which the client reached the service, `http` or `https`.
        stages: the stages so far; empty unless traces are exported.
    """

    def __init__(self, traceparent: str, tracestate: str, scheme: str) -> None:
        self.parent = parse_parent(traceparent)
        self.state, self.scheme = tracestate, scheme
        self.stages: list[Stage] = []

    def begin(self, waiting_since: float) -> None:
        """Collect the stages of the request that this thread begins to work on.

        Args:
            waiting_since: when the request was complete, by `time.perf_counter`.
        """
        if _exporter is not None:
            _local.stages = self.stages
            self.stages.append(Stage("queue", waiting_since, time.perf_counter()))

    def finish(
        self, request_id: str, method: str, route: str | None, path: str, status: int, started: float
    ) -> TraceContext | None:
        """Export the request's spans if traces are exported; return the span for its log line.

        Args:
            request_id: the request's id.
            method: the method as the client sent it.
            route: the rule that its path matched, or None.
            path: its path.
            status: status of the response.
            started: when the request was complete, by `time.perf_counter`.
        """
        if _exporter is None:
            return self.parent
        return _exporter.export(self, request_id, method, route, path, status, started)


class Exporter(Protocol):
    """Makes the spans of answered requests and sends them."""

    def export(
        self,
        trace: RequestTrace,
        request_id: str,
        method: str,
        route: str | None,
        path: str,
        status: int,
        started: float,
    ) -> TraceContext | None:
        """Export the spans of an answered request; return its own span. See `RequestTrace.finish`."""


def set_exporter(exporter: Exporter | None) -> None:
    """Export all requests from now on; None: export nothing."""
    global _exporter  # a process has one exporter, as it has one log
    _exporter = exporter
