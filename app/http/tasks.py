"""How a complete request is answered: by the app, or with a problem document without it."""

import time
from http import HTTPStatus
from typing import Any

from waitress.task import ErrorTask, WSGITask
from werkzeug.exceptions import HTTPException

from app.http import problems, security
from app.http.addresses import CLIENT
from app.http.admission import FETCHED, REJECTION, RejectedError
from app.http.gate import PREDICTIONS, keyed_route
from app.telemetry import requests as telemetry
from app.telemetry.request_trace import RequestTrace


class AppTask(WSGITask):  # type: ignore[misc]  # waitress has no types
    """Calls the app."""

    wrote_header: bool
    _ends_by_itself = False

    def get_environment(self) -> dict[str, Any]:
        """Return the WSGI environment."""
        environ: dict[str, Any] = super().get_environment()
        environ[REJECTION] = self.request.rejection
        environ[FETCHED] = self.request.fetched
        environ[CLIENT] = self.request.client
        environ[telemetry.STARTED] = self.request.completed_at
        environ["wsgi.url_scheme"] = _scheme(self)
        return environ

    def build_response_header(self) -> bytes:
        """Return the response's header."""
        options = self.request.headers.get("CONNECTION", "").lower().split(",")
        # While the service drains, the client's next request goes elsewhere.
        if self.channel.server.admission.draining or "close" in map(str.strip, options):
            self.set_close_on_finish()
        _say_only_close(self)
        self._ends_by_itself = self.version == "1.1" and not (self.has_body or self.close_on_finish)
        header: bytes = super().build_response_header()
        self._ends_by_itself = False
        return header

    def set_close_on_finish(self) -> None:
        """Close the connection after the response."""
        # waitress calls it for want of a Content-Length, which a response without a body does not need.
        if not self._ends_by_itself:
            super().set_close_on_finish()

    def write(self, data: bytes) -> None:
        """Send a part of the response."""
        # Header and body in one packet; waitress would send two.
        if not self.wrote_header and data and self.has_body and self.content_length == len(data):
            header = self.build_response_header()
            self.wrote_header = True
            self.content_bytes_written = len(data)
            self.channel.write_soon(header + data)
        else:
            super().write(data)


class ProblemTask(ErrorTask):  # type: ignore[misc]
    """Answers `Request.error`, and looks like every other error. It takes a fraction of the app's time."""

    wrote_header: bool

    def execute(self) -> None:
        """Send the response."""
        request, server = self.request, self.channel.server
        status, title, detail, headers = _describe(request.error)
        request_id = telemetry.valid_id(request.headers.get("X_REQUEST_ID", ""))
        route = keyed_route(request.route)
        body, content_type = problems.document(request.route, title, status, detail, request_id)
        self.status = f"{status} {title}"
        self.response_headers += [("Content-Type", content_type), ("X-Request-ID", request_id)]
        self.response_headers += [*headers, *security.HEADERS.items()]
        self.response_headers += security.cors_headers(request.headers.get("ORIGIN", ""), server.cors_origins)
        self.set_close_on_finish()
        _say_only_close(self)
        self.content_length = len(body)
        if isinstance(request.error, RejectedError) and route in PREDICTIONS:
            server.metrics.rejected.labels(request.error.reason).inc()
        started = request.completed_at or time.perf_counter()
        parent, state = (request.headers.get(name, "") for name in ("TRACEPARENT", "TRACESTATE"))
        trace = RequestTrace(parent, state, _scheme(self))
        telemetry.record(
            server.metrics,
            request_id,
            request.command,
            route,
            status,
            started,
            request.body_bytes_received,
            {"error": f"{detail:.200}"},
            trace.finish(request_id, request.command, route, request.path, status, started),
        )
        self.wrote_header = True
        self.channel.write_soon(self.build_response_header() + (b"" if request.command == "HEAD" else body))


def _scheme(task: Any) -> str:
    scheme: str = task.channel.server.gate.scheme(task.channel.addr[0], task.request.headers)
    return scheme


def _say_only_close(task: Any) -> None:
    """Keep waitress from adding `Connection: Keep-Alive` for an HTTP/1.0 client to `Connection: close`."""
    if task.close_on_finish:
        task.request.headers["CONNECTION"] = "close"


def _describe(error: Any) -> tuple[int, str, str, list[tuple[str, str]]]:
    """Return status, title, detail and headers of an HTTPException or an error of waitress."""
    if isinstance(error, HTTPException):
        return error.code or 500, error.name, error.description or error.name, problems.headers_of(error)
    status = HTTPStatus(error.code)
    return status.value, status.phrase, error.body, []
