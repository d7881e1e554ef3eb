"""What every request leaves behind: an id, its metrics, one log line."""

import logging
import re
import time
import uuid

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
        g.answers = None  # set by predictions: (labels, confidences)

    @app.after_request
    def _end(response: Response) -> Response:
        duration = time.perf_counter() - g.started
        # Both are bounded: anyone can invent paths and methods, and each would be a new time series.
        route = request.url_rule.rule if request.url_rule else "unmatched"
        method = request.method if request.method in _METHODS else "OTHER"
        response.headers["X-Request-ID"] = g.request_id
        metrics.requests.labels(method, route, response.status_code).inc()
        metrics.request_duration.labels(route).observe(duration)
        if _log.isEnabledFor(logging.INFO):
            fields = {
                "request_id": g.request_id,
                "method": method,
                "route": route,
                "status": response.status_code,
                "duration_ms": round(duration * 1000, 2),
                "bytes": request.content_length or 0,  # of the request's body
            }
            if g.answers is not None:
                fields["label"], fields["confidence"] = g.answers
            _log.info("request", extra={"fields": fields})
        return response
