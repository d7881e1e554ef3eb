"""Gives every request an id, counts it, and logs it as one line."""

import logging
import re
import time
import uuid
from collections.abc import Mapping

from flask import Flask, Response, g, request

from app.telemetry.metrics import Metrics
from app.telemetry.request_trace import RequestTrace
from app.telemetry.trace_context import TraceContext

METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})
"""Methods that are recorded by their names; any other may be a text of the client's."""
PROBES = frozenset({"/health", "/ready", "/v2/health/live", "/v2/health/ready"})
"""Routes that tell machines how the service is."""
STARTED = "app.started"
"""Key in the WSGI environment: when the request was complete, by `time.perf_counter`; waiting counts."""

_REJECTED = frozenset({401, 408, 413, 429, 503})
"""Statuses of predictions that are rejected, most of them in a millisecond."""

_log = logging.getLogger("app.request")
_VALID_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")


def register(app: Flask, metrics: Metrics) -> None:
    """Do so at the start and the end of every request of the app."""

    @app.before_request
    def _start() -> None:
        g.started = request.environ.get(STARTED) or time.perf_counter()
        g.request_id = valid_id(request.headers.get("X-Request-ID", ""))
        g.log_fields = {}  # further fields of the log line
        headers = request.headers
        parent, state = headers.get("traceparent", ""), headers.get("tracestate", "")
        g.trace = RequestTrace(parent, state, request.scheme)
        g.trace.begin(g.started)

    @app.after_request
    def _end(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        route = request.url_rule.rule if request.url_rule else None
        size = request.content_length or 0
        status = response.status_code
        span = g.trace.finish(g.request_id, request.method, route, request.path, status, g.started)
        record(metrics, g.request_id, request.method, route, status, g.started, size, g.log_fields, span)
        return response


def valid_id(client_id: str) -> str:
    """Return the id that the client gave its request; a new one if that is missing or not valid."""
    return client_id if _VALID_ID.fullmatch(client_id) else uuid.uuid4().hex


def record(
    metrics: Metrics,
    request_id: str,
    method: str,
    route: str | None,
    status: int,
    started: float,
    size: int,
    more_fields: Mapping[str, object] | None = None,
    span: TraceContext | None = None,
) -> None:
    """Count and log an answered request.

    Args:
        metrics: count the request.
        request_id: the request's id.
        method: the method as the client sent it.
        route: the rule that its path matched, or None.
        status: status of the response.
        started: when the request was complete, by `time.perf_counter`.
        size: size of the request's body, in bytes.
        more_fields: further fields of the log line.
        span: the request's span, or its client's; None: there is none.
    """
    duration = time.perf_counter() - started
    # Both are bounded: clients can invent paths and methods, and each would become a new time series.
    route = route or "unmatched"
    method = method if method in METHODS else "OTHER"
    metrics.requests.labels(method, route, status).inc()
    # The objective is about predictions: many preflights and rejections would hide slow ones.
    if route not in metrics.prediction_routes or (method == "POST" and status not in _REJECTED):
        metrics.request_duration.labels(route).observe(duration)
    if _log.isEnabledFor(logging.INFO):
        fields = {"request_id": request_id, "method": method, "route": route, "status": status}
        fields |= {"duration_ms": round(duration * 1000, 2), "bytes": size, **(more_fields or {})}
        fields |= span.fields if span else {}
        _log.info("request", extra={"fields": fields})
