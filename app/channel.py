"""One connection of the server, and its requests: waitress's own classes, with what it leaves undone."""

import time
import uuid
from collections.abc import Callable
from http import HTTPStatus
from typing import Any

from waitress.channel import HTTPChannel
from waitress.parser import HTTPRequestParser, ParsingError
from waitress.task import ErrorTask, WSGITask

from app import problems, security, telemetry
from app.admission import REFUSAL, RejectedError

_PREDICT = "/predict"
_HEADERS_S, _REQUEST_S, _IDLE_S = 15, 120, 120
"""Seconds that a client has for its headers, and for all of its request: a trickle ends there. And for how
long a connection may do nothing: send no request, or read no answer."""


class _Parser(HTTPRequestParser):  # type: ignore[misc]  # waitress has no types
    """A request that knows when it began."""

    late = False
    began_work = 0.0
    """When it was complete, and its turn among those of its connection; by `time.perf_counter`."""
    refusal: RejectedError | None = None
    error: Any
    command = path = ""  # until they are parsed, or where they can't be

    def __init__(self, adj: Any) -> None:
        super().__init__(adj)
        self.began = time.time()

    def parse_header(self, header_plus: bytes) -> None:
        try:
            super().parse_header(header_plus)
        except ValueError as error:  # of urlsplit or int; waitress would hang up without an answer
            raise ParsingError("a target or a length that can't be read") from error
        self.path = self.path or "/"  # as in `GET http://host`: werkzeug would redirect, with a page of HTML

    def be_late(self) -> None:
        self.late, self.refusal = True, RejectedError("draining", "the service is stopping")

    @property
    def predicts(self) -> bool:
        """Whether this is a prediction; its path is read as waitress does for WSGI."""
        return not self.error and self.command == "POST" and "/" + self.path.lstrip("/") == _PREDICT

    def overdue(self, now: float) -> bool:
        return bool(now - self.began > (_REQUEST_S if self.headers_finished else _HEADERS_S))


class _Task(WSGITask):  # type: ignore[misc]
    wrote_header: bool

    def get_environment(self) -> dict[str, Any]:
        environ: dict[str, Any] = super().get_environment()
        environ[REFUSAL] = self.request.refusal
        environ[telemetry.STARTED] = self.request.began_work
        return environ

    def build_response_header(self) -> bytes:
        if self.channel.server.admission.draining:
            self.set_close_on_finish()  # the client's next request goes elsewhere
        header: bytes = super().build_response_header()
        return header

    def write(self, data: bytes) -> None:
        # Header and body in one packet, where waitress would send two.
        if not self.wrote_header and data and self.has_body and self.content_length == len(data):
            header = self.build_response_header()
            self.wrote_header = True
            self.content_bytes_written = len(data)
            self.channel.write_soon(header + data)
        else:
            super().write(data)


class _ProblemTask(ErrorTask):  # type: ignore[misc]
    """What waitress itself refuses (bad syntax, huge headers or bodies), answered like every other error."""

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
            request.began_work or time.perf_counter(),
            request.body_bytes_received,
        )
        self.write(body)


class Channel(HTTPChannel):  # type: ignore[misc]
    """A connection whose requests are answered one after another.

    Attributes:
        held: whether a request waits for the answer before it to be read.
    """

    task_class: Callable[..., Any] = _Task
    error_task_class: Callable[..., Any] = _ProblemTask
    held = False
    _sending = False

    def parser_class(self, adj: Any) -> _Parser:
        """Begin a request; one that begins in a drain is late."""
        request = _Parser(adj)
        if self.server.admission.draining:
            request.be_late()
        return request

    def service(self) -> None:
        """Answer the first request."""
        if not self.connected and self.requests[0].predicts:  # gone while it was in line: waitress skips it
            self.server.metrics.rejected.labels("disconnected").inc()
        super().service()

    def send_continue(self) -> None:
        """Tell a client that asks whether to send its body."""
        if self.request.completed:  # no body is to come, or it is refused already: the answer is what comes
            self.request.expect_continue = False
        else:
            super().send_continue()

    def handle_write(self) -> None:
        """Send what waits, then let the next request go on."""
        super().handle_write()
        if self.held and self.connected and not self.total_outbufs_len:
            self.held = False
            self.server.add_task(self)

    def write_soon(self, data: Any) -> int:
        """Send from the thread that answers; the loop sends what the socket doesn't take."""
        self._sending = True
        try:
            written: int = super().write_soon(data)
        finally:
            self._sending = False
        if self.total_outbufs_len:
            self.server.pull_trigger()  # the loop sends the rest
        return written

    def writable(self) -> bool:
        """Whether the loop is to send."""
        # A thread that sends needs no help: a loop that asked again and again would only take its turns.
        helped = self._sending and self.total_outbufs_len < self.adj.outbuf_high_watermark
        return not helped and bool(super().writable())

    def busy(self, late: bool) -> bool:
        """Whether a request is being received, worked on or answered; late ones count if `late`."""
        requests = [*self.requests, *([self.request] if self.request is not None else [])]
        return bool(self.total_outbufs_len) or any(late or not request.late for request in requests)

    def readable(self) -> bool:
        """Whether the loop is to read; asked at each of its turns, so time-outs are seen to here."""
        now = time.time()
        trickles = self.request is not None and self.request.overdue(now)
        waits_for_client = bool(self.total_outbufs_len) or not self.requests
        if trickles or (waits_for_client and now - self.last_activity > _IDLE_S):
            self.will_close = True
        return bool(super().readable())
