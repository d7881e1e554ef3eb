"""A connection and its requests: waitress's classes with the changes that `app.http` lists."""

import time
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask, WSGITask

from app.http import problems, security
from app.http.admission import REJECTION, RejectedError
from app.telemetry import requests as telemetry

_PREDICT = "/predict"
_HEADERS_S, _REQUEST_S, _IDLE_S = 15, 120, 120
"""Seconds that a client has to send the headers, and to send the whole request. Seconds after which a
connection is closed if the client neither sends a request nor reads a response."""


class Request(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """A request while it is received, and then complete.

    Attributes:
        late: whether it began during a drain.
        completed_at: when it was complete and the responses before it were read, by `time.perf_counter`; 0:
            not yet.
        rejection: why it is not predicted, if it is a prediction; see `app.http`.
    """

    late = False
    completed_at = 0.0
    rejection: RejectedError | None = None
    error: Any
    command = path = ""  # until they are parsed, and if they can't be

    def __init__(self, adj: Any) -> None:
        super().__init__(adj)
        self._began = time.monotonic()

    def parse_header(self, header_plus: bytes) -> None:
        """Parse the header; raises ParsingError, which becomes a response."""
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # from urlsplit or int; waitress would hang up without a response
            raise ParsingError("the request's target or length can't be parsed") from error
        # The path is empty in `GET http://host`; werkzeug would redirect, with an HTML page.
        self.path = self.path or "/"

    def mark_late(self) -> None:
        """Note that the request began during a drain."""
        self.late, self.rejection = True, RejectedError("draining", "the service is stopping")

    @property
    def predicts(self) -> bool:
        """Whether this is a prediction. Waitress strips slashes from the path in the same way for WSGI."""
        return not self.error and self.command == "POST" and "/" + self.path.lstrip("/") == _PREDICT

    def too_slow(self, now: float) -> bool:
        """Whether the client should have sent more of it by now; `now` is by `time.monotonic`."""
        return bool(now - self._began > (_REQUEST_S if self.headers_finished else _HEADERS_S))


class _Task(WSGITask):  # type: ignore[misc]
    wrote_header: bool

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        environ[REJECTION] = self.request.rejection
        environ[telemetry.STARTED] = self.request.completed_at
        return environ

    def build_response_header(self) -> bytes:
        if self.channel.server.admission.draining:
            self.set_close_on_finish()  # the client's next request goes elsewhere
        header: bytes = super().build_response_header()
        return header

    def write(self, data: bytes) -> None:
        # Header and body in one packet; waitress would send two.
        if not self.wrote_header and data and self.has_body and self.content_length == len(data):
            header = self.build_response_header()
            self.wrote_header = True
            self.content_bytes_written = len(data)
            self.channel.write_soon(header + data)
        else:
            super().write(data)


class _ProblemTask(ErrorTask):  # type: ignore[misc]
    """Answers errors that waitress finds (bad syntax, huge headers or bodies) like every other error."""

    def execute(self) -> None:
        status = HTTPStatus(self.request.error.code)
        request_id = uuid.uuid4().hex
        body = problems.body(status.phrase, status, self.request.error.body, request_id)
        self.status = f"{status.value} {status.phrase}"
        self.response_headers += [("Content-Type", problems.CONTENT_TYPE), ("X-Request-ID", request_id)]
        self.response_headers += security.HEADERS.items()
        self.set_close_on_finish()
        self.content_length = len(body)
        request = self.request
        telemetry.record(
            self.channel.server.metrics,
            request_id,
            request.command,
            None,
            status.value,
            request.completed_at or time.perf_counter(),
            request.body_bytes_received,
        )
        self.write(body)


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection, whose requests are answered one after another.

    Attributes:
        blocked: whether a complete request waits until the client has read the response before it.
    """

    task_class: Callable[..., Any] = _Task
    error_task_class: Callable[..., Any] = _ProblemTask
    blocked = False
    _sending = False

    @property
    def last_activity(self) -> float:
        """When data was last received or sent, by `time.monotonic`."""
        return self._last_activity

    @last_activity.setter
    def last_activity(self, _: float) -> None:
        # Waitress assigns wall-clock time, and a clock that is set would close or keep connections.
        self._last_activity = time.monotonic()

    def parser_class(self, adj: Any) -> Request:
        """Begin a request; one that begins during a drain is late."""
        request = Request(adj)
        if self.server.admission.draining:
            request.mark_late()
        return request

    def service(self) -> None:
        """Answer the first request."""
        if not self.connected and self.requests[0].predicts:  # left while queued: waitress skips the request
            self.server.metrics.rejected.labels("disconnected").inc()
        super().service()

    def send_continue(self) -> None:
        """Ask for the body if the client waits for that (`Expect: 100-continue`)."""
        if self.request.completed:  # there is no body, or the request is rejected already
            self.request.expect_continue = False
        else:
            super().send_continue()

    def handle_write(self) -> None:
        """Send more of the response, then continue with a request that waited for that."""
        super().handle_write()
        if self.blocked and self.connected and not self.total_outbufs_len:
            self.blocked = False
            self.server.add_task(self)

    def write_soon(self, data: Any) -> int:
        """Send from the thread that answers; the loop sends what the socket doesn't take at once."""
        self._sending = True
        try:
            written: int = super().write_soon(data)
        finally:
            self._sending = False
        if self.total_outbufs_len:
            self.server.pull_trigger()  # wakes the loop to send the rest
        return written

    def writable(self) -> bool:
        """Whether the loop should send."""
        # Not while a thread is sending: the loop would only take CPU time from it.
        thread_sends = self._sending and self.total_outbufs_len < self.adj.outbuf_high_watermark
        return not thread_sends and bool(super().writable())

    def busy(self, late: bool) -> bool:
        """Whether a request is being received or answered; late requests count if `late` is set."""
        requests = [*self.requests, *([self.request] if self.request is not None else [])]
        return bool(self.total_outbufs_len) or any(late or not request.late for request in requests)

    def readable(self) -> bool:
        """Whether the loop should read. The loop calls it in every turn, so it checks the time-outs too."""
        now = time.monotonic()
        too_slow = self.request is not None and self.request.too_slow(now)
        waits_for_client = bool(self.total_outbufs_len) or not self.requests
        if too_slow or (waits_for_client and now - self.last_activity > _IDLE_S):
            self.will_close = True
        return bool(super().readable())
