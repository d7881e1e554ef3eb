"""Errors as RFC 9457 `application/problem+json`, the same for all routes."""

import json
import logging

from flask import Flask, Response, g
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed, NotFound

CONTENT_TYPE = "application/problem+json"

_log = logging.getLogger(__name__)


def register(app: Flask) -> None:
    """Answer every exception with a problem document, and log unexpected ones."""

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response | HTTPException:
        if error.code is None or error.code < 400:  # a redirect is not an error
            return error
        return respond(error)

    @app.errorhandler(NotFound)
    def _not_found(error: NotFound) -> Response:
        from_route = error.description != NotFound.description  # the route says what is missing
        return respond(error if from_route else NotFound("there is nothing at this path"))

    @app.errorhandler(MethodNotAllowed)
    def _wrong_method(error: MethodNotAllowed) -> Response:
        allowed = sorted(error.valid_methods or ())
        return respond(MethodNotAllowed(allowed, f"this path supports only {', '.join(allowed)}"))

    @app.errorhandler(Exception)
    def _unexpected(error: Exception) -> Response:
        _log.error("unexpected error", exc_info=error, extra={"fields": {"request_id": g.request_id}})
        return respond(InternalServerError("an unexpected error; the log shows it with this request_id"))


def body(title: str, status: int, detail: str, request_id: str) -> bytes:
    """Return a problem document, JSON."""
    return json.dumps({"title": title, "status": status, "detail": detail, "request_id": request_id}).encode()


def respond(error: HTTPException) -> Response:
    """Return the response for an exception, with its headers."""
    status = error.code or 500
    response = Response(body(error.name, status, error.description or error.name, g.request_id), status)
    response.headers.extend(headers_of(error))
    response.headers["Content-Type"] = CONTENT_TYPE
    return response


def headers_of(error: HTTPException) -> list[tuple[str, str]]:
    """Return the headers that belong to an exception: Allow, Retry-After, WWW-Authenticate."""
    return [(name, value) for name, value in error.get_headers() if name != "Content-Type"]
