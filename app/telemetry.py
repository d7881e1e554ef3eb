"""What every request leaves behind: an id, its metrics, one log line."""

import logging
import re
import time
import uuid
from collections.abc import Mapping

from flask import Flask, Response, g, request

from app.metrics import Metrics

STARTED = "app.started"
"""Key in the WSGI environment: when the request was complete and its wait began; by `time.perf_counter`."""

_log = logging.getLogger("app.request")
_SANE_ID = re.compile(r"[A-Za-z0-9._-]{1,64}")
_METHODS = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"})


def register(app: Flask, metrics: Metrics) -> None:
    """Do so at the start and the end of every request."""

    @app.before_request
    def _start() -> None:
        g.started = request.environ.get(STARTED) or time.perf_counter()
        given = request.headers.get("X-Request-ID", "")
        g.request_id = given if _SANE_ID.fullmatch(given) else uuid.uuid4().hex
        g.answers = {}  # set by predictions: what the log line says of them

    @app.after_request
    def _end(response: Response) -> Response:
        response.headers["X-Request-ID"] = g.request_id
        route = request.url_rule.rule if request.url_rule else None
        size = request.content_length or 0
        record(metrics, g.request_id, request.method, route, response.status_code, g.started, size, g.answers)
        return response


def record(
    metrics: Metrics,
    request_id: str,
    method: str,
    route: str | None,
    status: int,
    started: float,
    size: int,
    answers: Mapping[str, object] | None = None,
) -> None:
    """Count an answered request and log its line.

    Args:
        metrics: where it is counted.
        request_id: of the request.
        method: as it was sent.
        route: the rule that its path matched, or None.
        status: of the answer.
        started: when the request was complete, by `time.perf_counter`.
        size: of its body, in bytes.
        answers: what a prediction answered, as further fields of the line.
    """
    duration = time.perf_counter() - started
    # Both are bounded: anyone can invent paths and methods, and each would be a new time series.
    route = route or "unmatched"
    method = method if method in _METHODS else "OTHER"
    metrics.requests.labels(method, route, status).inc()
    metrics.request_duration.labels(route).observe(duration)
    if _log.isEnabledFor(logging.INFO):
        fields: dict[str, object] = {
            "request_id": request_id,
            "method": method,
            "route": route,
            "status": status,
            "duration_ms": round(duration * 1000, 2),
            "bytes": size,
        }
        _log.info("request", extra={"fields": fields | dict(answers or {})})
