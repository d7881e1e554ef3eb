"""Errors as RFC 9457 `application/problem+json`, except below /v2, whose protocol has its own form."""

import json
import logging

from flask import Flask, Response, g, request
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


def document(path: str, title: str, status: int, detail: str, request_id: str) -> tuple[bytes, str]:
    """Return the body of an error response, JSON, and its type, for a request's path."""
    if path == "/v2" or path.startswith("/v2/"):  # the Open Inference Protocol
        return json.dumps({"error": detail}).encode(), "application/json"
    problem = {"title": title, "status": status, "detail": detail, "request_id": request_id}
    return json.dumps(problem).encode(), CONTENT_TYPE


def respond(error: HTTPException) -> Response:
    """Return the response for an exception, with its headers."""
    status = error.code or 500
    detail = error.description or error.name
    body, content_type = document(request.path, error.name, status, detail, g.request_id)
    response = Response(body, status)
    response.headers.extend(headers_of(error))
    response.headers["Content-Type"] = content_type
    return response


def headers_of(error: HTTPException) -> list[tuple[str, str]]:
    """Return the headers that belong to an exception: Allow, Retry-After, WWW-Authenticate."""
    return [(name, value) for name, value in error.get_headers() if name != "Content-Type"]
