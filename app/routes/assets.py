"""Files that the service sends as they are: those of its pages."""

import functools
import hashlib
import io
from http import HTTPStatus
from pathlib import Path

from flask import Response, request
from werkzeug.exceptions import PreconditionFailed
from werkzeug.wsgi import wrap_file

_TYPES = {
    ".css": "text/css",
    ".jpg": "image/jpeg",
    ".js": "text/javascript",
    ".png": "image/png",
    ".svg": "image/svg+xml",
}
"""Media types, because Windows' registry may know others."""


def respond(path: Path) -> Response:
    """Return a file, or 304 if the client has it already.

    All responses share one copy in memory. An open file would take a file descriptor for as long as a client
    doesn't read, and a part of the file, which ranges allow, would take memory for each of them.

    Args:
        path: a file that doesn't change while the service runs; one of few.
    """
    content, tag = _read(path)
    return respond_with(content, tag, _TYPES[path.suffix])


def respond_with(content: bytes, tag: str, kind: str) -> Response:
    """Return a content that all responses share; `tag` identifies it, `kind` is its media type."""
    response = Response(
        wrap_file(request.environ, io.BytesIO(content)), mimetype=kind, direct_passthrough=True
    )
    response.content_length = len(content)
    response.set_etag(tag)
    response.make_conditional(request)
    if response.status_code == HTTPStatus.PRECONDITION_FAILED:  # with the file as its body
        raise PreconditionFailed
    return response


@functools.cache
def _read(path: Path) -> tuple[bytes, str]:
    content = path.read_bytes()
    return content, hashlib.sha256(content).hexdigest()[:32]
