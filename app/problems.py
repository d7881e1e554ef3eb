"""Errors as RFC 9457 `application/problem+json`, for every route alike."""

import json
import logging

from flask import Flask, Response, g
from werkzeug.exceptions import HTTPException, InternalServerError, MethodNotAllowed, NotFound

CONTENT_TYPE = "application/problem+json"

_log = logging.getLogger(__name__)


def register(app: Flask) -> None:
    """Answer every exception with a problem; log those that aren't an answer."""

    @app.errorhandler(HTTPException)
    def _http(error: HTTPException) -> Response | HTTPException:
        if error.code is None or error.code < 400:  # a redirect is no error
            return error
        return answer(error)

    @app.errorhandler(NotFound)
    def _not_found(error: NotFound) -> Response:
        routed = error.description != NotFound.description  # it says what is missing at a path that there is
        return answer(error if routed else NotFound("there is nothing at this path"))

    @app.errorhandler(MethodNotAllowed)
    def _wrong_method(error: MethodNotAllowed) -> Response:
        allowed = sorted(error.valid_methods or ())
        return answer(MethodNotAllowed(allowed, f"this path answers {', '.join(allowed)}"))

    @app.errorhandler(Exception)
    def _unexpected(error: Exception) -> Response:
        _log.error("unexpected error", exc_info=error, extra={"fields": {"request_id": g.request_id}})
        return answer(InternalServerError("an unexpected error; the log has it under this request_id"))


def body(title: str, status: int, detail: str, request_id: str) -> bytes:
    """Return the JSON document of a problem."""
    return json.dumps({"title": title, "status": status, "detail": detail, "request_id": request_id}).encode()


def answer(error: HTTPException) -> Response:
    """Return the problem that says what the exception says, with its headers."""
    status = error.code or 500
    response = Response(body(error.name, status, error.description or error.name, g.request_id), status)
    for name, value in error.get_headers():  # Allow, Retry-After, WWW-Authenticate
        response.headers[name] = value
    response.headers["Content-Type"] = CONTENT_TYPE
    return response
